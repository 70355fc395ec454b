//! A simulation that could not see a bug would be worth nothing: each of these is planted, and an invariant must catch it.

use sillok_sim::{faults, planted, process};

use super::ONE;

/// So many seeds are tried where the one that is known to catch a bug does not: what a seed means changes with the product.
const TRIED: u64 = 60;

/// Plants `bugs` under faults of `kinds` (all where it names none); one of `invariants` must not hold, with `seed` or another.
fn is_caught(bugs: &str, kinds: &str, seed: u64, invariants: &[&str]) {
    let more = [(planted::PLANTED, bugs), (faults::FAULTS, kinds)];
    let catches = |report: &process::Report| invariants.iter().any(|name| report.broken.iter().any(|it| it == name));
    let seeds = std::iter::once(seed).chain((1..=TRIED).filter(|other| *other != seed));
    let caught = seeds.map(|seed| process::run(seed, ONE, &more)).find(catches);
    let caught = caught.unwrap_or_else(|| panic!("{bugs} is caught by none of {TRIED} seeds"));
    println!("{bugs}: seed {} breaks {:?}", caught.seed, caught.broken);
    assert!(caught.output.contains(&format!("planted: {}", bugs.split(',').next().unwrap_or_default())));
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    is_caught("acknowledge-before-sync", "", 18, &["kept", "original", "one_chain"]);
}

/// A record is seldom refused with others behind it; here one is now and then.
#[test]
fn a_skipped_predecessor_check_is_caught() {
    is_caught("skip-predecessor-check,refuse-one-proposal", "", 2, &["kept"]);
}

/// By itself it breaks nothing: what was decided upon the refused record is discarded, and what of it is in the log already is
/// skipped by every node alike.
#[test]
fn a_proposal_refused_in_the_middle_of_a_term_is_survived() {
    let more = [(planted::PLANTED, "refuse-one-proposal"), ("RUST_LOG", "sillok_cluster=warn")];
    let survives = |seed| {
        let report = process::run(seed, ONE, &more);
        assert!(report.held, "{}", report.output);
        ["the log refused the record", "was decided upon another one and is skipped"]
            .iter()
            .all(|defence| report.output.contains(defence))
    };
    assert!((1..=TRIED).any(survives), "in no seed did a record stand behind a refused one");
}

#[test]
fn a_leader_that_goes_on_in_its_old_term_is_caught() {
    is_caught("leader-restore", "power cut,torn write,slow disk,crash", 7, &["linearizable", "kept", "one_chain"]);
}

/// Consensus itself sees that it voted twice and stops, at every start, so that nothing is served any more.
#[test]
fn a_forgotten_vote_is_caught() {
    is_caught(
        "forget-vote",
        "crash,power cut,partition,one-way partition,pause",
        12,
        &["converges", "kept", "one_chain"],
    );
}

/// What the meta file remembers as durable is missed at the next start, if it was remembered: the node stops for good.
#[test]
fn an_unsynced_tail_that_is_reported_on_open_is_caught() {
    is_caught("unsynced-tail", "unsynced tail,power cut,power cut of all sites,partition", 7, &["unharmed", "kept"]);
}

#[test]
fn views_ahead_of_the_chronicle_are_caught() {
    is_caught("views-ahead", "", 5, &["one_chain"]);
}

#[test]
fn a_missing_retry_table_is_caught() {
    is_caught("no-retry-table", "", 1, &["original"]);
}

#[test]
fn a_blank_disk_that_votes_under_its_old_id_is_caught() {
    is_caught("blank-votes", "blank disk under its old id,partition,crash,clogged link", 3, &["kept", "one_chain"]);
}

#[test]
fn a_read_without_a_read_index_is_caught() {
    is_caught("read-without-index", "", 2, &["linearizable"]);
}

#[test]
fn a_tail_that_is_cut_where_it_is_damaged_is_caught() {
    is_caught("cut-on-damage", "bit rot,partition,crash,clogged link", 3, &["original", "one_chain", "linearizable"]);
}

/// Two clients add somebody at once, and one is told at once that the other's friend is a friend already. The leader that said so
/// is cut off and its records are lost: whoever looks finds nobody, and once the first client gives up, the second's command,
/// repeated under its key, is recorded after all.
#[test]
fn a_rejection_that_is_answered_early_is_caught() {
    is_caught("early-refusal", "partition,delay,slow disk", 2, &["refused", "original", "unrecorded"]);
}

//! `sillok friend check`: are my friends still there?
//!
//! Every site is asked for its digests, stale, so that the question is answered with or without a majority. A site that has not
//! read as far as another, or does not know the channel, is asked again once it has: it may be a moment behind, or have lost it.
//! Where the sites stand at different revisions all the same they are asked at the lowest of them: digests of one revision must
//! be equal.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use sillok_wire::{
    errors,
    v1::{self, cluster_client::ClusterClient, queries_client::QueriesClient},
};
use tonic::{Code, Status};

use super::Session;
use crate::{
    failure::Failure,
    format::{ago, list_and, short_hex, thousands},
    output::{read_line, to_json},
    table::Rows,
};

/// One node gets so long to answer; the dark ones are waited for no longer than this.
const ONE_NODE: Duration = Duration::from_secs(2);
/// The followers' views may be a moment behind: so often is a later common revision looked for.
const ROUNDS: usize = 3;
/// Digests can be asked at the applied revision or any of the last so many.
const ANSWERABLE: u64 = 1024;

/// What one node answered.
struct Witness {
    /// The node's id
    node_id: u64,
    site: String,
    endpoint: String,
    answer: Result<v1::GetDigestsResponse, Status>,
    /// It has read past the channel's opening, and does not know the channel.
    lost: bool,
}

impl Witness {
    /// It may be burnt, stopped or cut off: it says nothing, and nothing against the others.
    fn is_dark(&self) -> bool {
        self.answer.as_ref().is_err_and(is_dark)
    }

    /// It does not know the channel, or has read less far than this.
    fn is_behind(&self, furthest: &v1::Position) -> bool {
        match &self.answer {
            Ok(answer) => {
                let position = answer.info.as_ref().and_then(|info| info.position.as_ref());
                position.is_none_or(|position| position.sequence < furthest.sequence)
            }
            Err(status) => is_unknown(status),
        }
    }
}

/// What the answers together say.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Every node that answered has the same digests at this revision.
    Agree { revision: u64, friends: u64 },
    /// Not so.
    Disagree { revision: u64 },
    /// Nobody knows the channel.
    NoSuchChannel,
    /// Nobody answered.
    Silence,
}

pub(crate) async fn run(session: &Session, channel: &str) -> Result<(), Failure> {
    let nodes = roster(session).await?;
    let mut witnesses = ask_all(session, &nodes, channel, 0).await;
    ask_who_is_behind(session, channel, &mut witnesses).await;
    set_aside_far_behind(&mut witnesses);
    for _ in 0..ROUNDS {
        let revisions: Vec<u64> = digests(&witnesses).map(|(_, digests)| digests.revision).collect();
        let Some(common) = revisions.iter().min().copied() else { break };
        if revisions.iter().all(|revision| *revision == common) {
            break;
        }
        // At a revision that only some have, a site that has lost the channel answers as before.
        let lost: Vec<u64> = witnesses.iter().filter(|one| one.lost).map(|one| one.node_id).collect();
        witnesses = ask_all(session, &nodes, channel, common).await;
        witnesses.iter_mut().for_each(|one| one.lost = lost.contains(&one.node_id) && one.answer.is_err());
    }
    report(session, channel, &witnesses)
}

/// Every member of the cluster by its id: where it can be asked, and its site. Asked of whoever answers, without a leader.
/// The endpoints given are preferred to the addresses the nodes advertise, which may be known only inside their network.
async fn roster(session: &Session) -> Result<BTreeMap<u64, (String, String)>, Failure> {
    let status = session.api.cluster(|mut node| async move { node.get_status(v1::GetStatusRequest {}).await }).await?;
    let mut nodes: BTreeMap<u64, (String, String)> = status
        .nodes
        .iter()
        .filter_map(|member| member.node.as_ref())
        .map(|node| (node.id, (node.site.clone(), node.client_address.clone())))
        .collect();
    let asked = join_all(session.api.endpoints().into_iter().map(|endpoint| async move {
        let channel = session.api.channel(&endpoint).ok()?;
        let mut node = ClusterClient::new(channel);
        let answer = tokio::time::timeout(ONE_NODE, node.get_status(v1::GetStatusRequest {})).await.ok()?.ok()?;
        Some((endpoint, answer.into_inner().info?))
    }));
    for (endpoint, info) in asked.await.into_iter().flatten() {
        nodes.insert(info.node_id, (info.site, endpoint));
    }
    Ok(nodes)
}

async fn ask_all(
    session: &Session,
    nodes: &BTreeMap<u64, (String, String)>,
    channel: &str,
    revision: u64,
) -> Vec<Witness> {
    join_all(nodes.iter().map(|(node_id, (site, endpoint))| async move {
        let answer = ask_one(session, endpoint, channel, revision, None).await;
        Witness { node_id: *node_id, site: site.clone(), endpoint: endpoint.clone(), answer, lost: false }
    }))
    .await
}

async fn ask_one(
    session: &Session,
    endpoint: &str,
    channel: &str,
    revision: u64,
    at_least: Option<v1::Position>,
) -> Result<v1::GetDigestsResponse, Status> {
    let late =
        if at_least.is_some() { Status::out_of_range("behind") } else { Status::unavailable("no answer in 2 s") };
    let request = v1::GetDigestsRequest {
        options: Some(v1::ReadOptions { consistency: v1::ReadConsistency::Stale as i32, at_least }),
        channel_id: channel.to_owned(),
        revision,
    };
    let answer = async {
        let connection = session.api.channel(endpoint).map_err(|error| Status::unavailable(error.message))?;
        QueriesClient::new(connection).get_digests(request).await.map(tonic::Response::into_inner)
    };
    tokio::time::timeout(ONE_NODE, answer).await.unwrap_or(Err(late))
}

/// Those that have not read as far as another or do not know a channel that others know, once they have read as far as these.
async fn ask_who_is_behind(session: &Session, channel: &str, witnesses: &mut [Witness]) {
    let Some(furthest) = furthest(witnesses).and_then(|info| info.position) else { return };
    join_all(witnesses.iter_mut().filter(|witness| witness.is_behind(&furthest)).map(|witness| async move {
        let answer = ask_one(session, &witness.endpoint, channel, 0, Some(furthest)).await;
        witness.lost = answer.as_ref().is_err_and(is_unknown);
        // One that does not come so far in time keeps what it answered of where it stands.
        if witness.answer.is_err() || answer.is_ok() || witness.lost {
            witness.answer = answer;
        }
    }))
    .await;
}

/// What the answer that speaks for the most speaks for.
fn furthest(witnesses: &[Witness]) -> Option<&v1::ReadInfo> {
    let infos = witnesses.iter().filter_map(|witness| witness.answer.as_ref().ok()?.info.as_ref());
    infos.max_by_key(|info| info.position.as_ref().map_or(0, |position| position.sequence))
}

fn is_unknown(status: &Status) -> bool {
    errors::reason_of(status) == Some(v1::Reason::ChannelNotFound)
}

/// A node that is killed while it is asked shows as any of these.
fn is_dark(status: &Status) -> bool {
    errors::reason_of(status).is_none()
        && matches!(
            status.code(),
            Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal
        )
}

/// A site so far behind that no other can answer for its revision any more is named, not compared.
fn set_aside_far_behind(witnesses: &mut [Witness]) {
    let highest = digests(witnesses).map(|(_, digests)| digests.revision).max().unwrap_or(0);
    for witness in witnesses {
        let Ok(answer) = &witness.answer else { continue };
        let revision = answer.digests.as_ref().map_or(0, |digests| digests.revision);
        if revision + ANSWERABLE <= highest {
            let text = format!("far behind, at revision {}", thousands(revision));
            witness.answer = Err(Status::out_of_range(text));
        }
    }
}

fn digests(witnesses: &[Witness]) -> impl Iterator<Item = (&Witness, &v1::Digests)> {
    witnesses.iter().filter_map(|witness| Some((witness, witness.answer.as_ref().ok()?.digests.as_ref()?)))
}

fn judge(witnesses: &[Witness]) -> Verdict {
    let mut known = digests(witnesses).map(|(_, digests)| digests);
    let Some(first) = known.next() else {
        let any_unknown = witnesses.iter().any(|witness| witness.answer.as_ref().is_err_and(is_unknown));
        return if any_unknown { Verdict::NoSuchChannel } else { Verdict::Silence };
    };
    let lowest = digests(witnesses).map(|(_, digests)| digests.revision).min().unwrap_or(first.revision);
    if known.all(|other| other == first) && !witnesses.iter().any(|witness| witness.lost) {
        Verdict::Agree { revision: first.revision, friends: first.friend_count }
    } else {
        Verdict::Disagree { revision: lowest }
    }
}

/// Sites in the order of their nodes, without repetition.
fn sites<'a>(witnesses: impl Iterator<Item = &'a Witness>) -> Vec<&'a str> {
    let mut names: Vec<&str> = Vec::new();
    for witness in witnesses {
        if !names.contains(&witness.site.as_str()) {
            names.push(&witness.site);
        }
    }
    names
}

/// The sentence, for a verdict of agreement. With a site missing it also says what the answer speaks for.
fn sentence(witnesses: &[Witness], revision: u64, friends: u64) -> String {
    let all = sites(witnesses.iter());
    let here = sites(digests(witnesses).map(|(witness, _)| witness));
    let (friends, revision) = (thousands(friends), thousands(revision));
    if here.len() == all.len() {
        return format!(
            "Are my friends still there? Yes: {friends}, identical at {}, revision {revision}",
            list_and(&here)
        );
    }
    let silent = witnesses.iter().filter(|witness| !here.contains(&witness.site.as_str()));
    let silent: Vec<String> = silent
        .filter_map(|witness| Some(format!("{} is {}", witness.site, why_not(witness.answer.as_ref().err()?))))
        .collect();
    let agree = match here.len() {
        1 => format!("only {} answers, nothing to compare it with", here[0]),
        2 => format!("{} of {} sites answer; both agree", here.len(), all.len()),
        _ => format!("{} of {} sites answer; all of them agree", here.len(), all.len()),
    };
    let mut text = format!(
        "Are my friends still there? Yes: {friends}, at {}, revision {revision}\n{agree} ({})",
        list_and(&here),
        silent.join(", ")
    );
    if let Some(info) = furthest(witnesses) {
        text.push_str(&format!("\n{}", read_line(Some(info))));
    }
    text
}

fn report(session: &Session, channel: &str, witnesses: &[Witness]) -> Result<(), Failure> {
    let verdict = judge(witnesses);
    if session.out.is_json() {
        session.out.line(&json(witnesses, &verdict)?.to_string())?;
    } else if matches!(verdict, Verdict::Agree { .. } | Verdict::Disagree { .. }) {
        session.out.line(&table(witnesses))?;
    }
    match verdict {
        Verdict::Agree { revision, friends } => {
            if !session.out.is_json() {
                session.out.line(&format!("\n{}", sentence(witnesses, revision, friends)))?;
            }
            // A dark site says nothing; one that answers and cannot be compared is not as it should be.
            let odd = |witness: &&Witness| witness.answer.is_err() && !witness.is_dark();
            match sites(witnesses.iter().filter(odd)).as_slice() {
                [] => Ok(()),
                odd => Err(Failure::no(format!(
                    "not compared: {}; ask again, and see `sillok cluster status`",
                    list_and(odd)
                ))),
            }
        }
        Verdict::Disagree { .. } if witnesses.iter().any(|witness| witness.lost) => {
            let lost = sites(witnesses.iter().filter(|witness| witness.lost));
            Err(Failure::no(format!(
                "the sites do NOT agree about {channel}: it is unknown at {}, which has read past its opening",
                list_and(&lost)
            ))
            .advise("keep every data directory as it is, and run `sillok verify` on each"))
        }
        Verdict::Disagree { revision } => Err(Failure::no(format!(
            "the sites do NOT agree about {channel} at revision {}: compare the digests above",
            thousands(revision)
        ))
        .advise("keep every data directory as it is, and run `sillok verify` on each")),
        Verdict::NoSuchChannel => Err(Failure::no(format!("no site knows a channel {channel}"))),
        Verdict::Silence => Err(Failure::new(crate::failure::Exit::Unavailable, "no site answers")),
    }
}

fn table(witnesses: &[Witness]) -> String {
    let mut rows =
        Rows::new(&["site", "node", ">revision", ">friends", "friend list", "content", "history", "current"]);
    for witness in witnesses {
        let node = format!("{} {}", witness.node_id, witness.endpoint);
        match &witness.answer {
            Ok(answer) => {
                let digests = answer.digests.clone().unwrap_or_default();
                rows.push([
                    witness.site.clone(),
                    node,
                    thousands(digests.revision),
                    thousands(digests.friend_count),
                    short_hex(&digests.friend_list_digest),
                    short_hex(&digests.content_digest),
                    short_hex(&digests.history_digest),
                    ago(answer.info.as_ref().and_then(|info| info.current_as_of.as_ref())),
                ]);
            }
            Err(status) => {
                let dash = || "–".to_owned();
                rows.push([witness.site.clone(), node, dash(), dash(), dash(), dash(), dash(), why_not(status)]);
            }
        }
    }
    rows.render()
}

/// Why a node did not answer, in a word or two.
fn why_not(status: &Status) -> String {
    match (errors::reason_of(status), status.code()) {
        (Some(v1::Reason::ChannelNotFound), _) => "not here".to_owned(),
        (Some(v1::Reason::PositionNotReached), _) => "behind".to_owned(),
        (Some(v1::Reason::RevisionNotAnswerable), _) => "too far ahead".to_owned(),
        (Some(reason), _) => errors::reason_name(reason).to_lowercase().replace('_', " "),
        (None, _) if is_dark(status) => "dark".to_owned(),
        (None, _) => status.message().to_owned(),
    }
}

fn json(witnesses: &[Witness], verdict: &Verdict) -> Result<serde_json::Value, Failure> {
    let mut sites = Vec::new();
    for witness in witnesses {
        let mut site = serde_json::json!({
            "site": witness.site, "nodeId": witness.node_id.to_string(), "endpoint": witness.endpoint,
        });
        match &witness.answer {
            Ok(answer) => site["answer"] = to_json("GetDigestsResponse", answer)?,
            Err(status) => site["problem"] = why_not(status).into(),
        }
        sites.push(site);
    }
    let (agree, revision, friends) = match verdict {
        Verdict::Agree { revision, friends } => (Some(true), *revision, Some(friends.to_string())),
        Verdict::Disagree { revision } => (Some(false), *revision, None),
        Verdict::NoSuchChannel | Verdict::Silence => (None, 0, None),
    };
    Ok(serde_json::json!({
        "agree": agree, "revision": revision.to_string(), "friendCount": friends, "sites": sites,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn witness(node_id: u64, site: &str, digests: Option<(u64, u8)>) -> Witness {
        let answer = match digests {
            Some((revision, byte)) => Ok(v1::GetDigestsResponse {
                info: None,
                digests: Some(v1::Digests {
                    revision,
                    friend_count: 1604,
                    friend_list_digest: vec![byte; 32].into(),
                    ..Default::default()
                }),
            }),
            None => Err(Status::unavailable("connection refused")),
        };
        Witness { node_id, site: site.to_owned(), endpoint: format!("127.0.0.1:740{node_id}"), answer, lost: false }
    }

    #[test]
    fn three_sites_that_agree_say_yes() {
        let all = ["chungju", "seongju", "jeonju"].map(|site| witness(1, site, Some((9812, 7))));
        assert_eq!(judge(&all), Verdict::Agree { revision: 9812, friends: 1604 });
        assert_eq!(
            sentence(&all, 9812, 1604),
            "Are my friends still there? Yes: 1,604, identical at chungju, seongju and jeonju, revision 9,812"
        );
    }

    #[test]
    fn a_dark_site_is_named() {
        let all =
            [witness(1, "chungju", Some((3, 7))), witness(2, "seongju", None), witness(3, "jeonju", Some((3, 7)))];
        assert_eq!(judge(&all), Verdict::Agree { revision: 3, friends: 1604 });
        let text = sentence(&all, 3, 1604);
        assert!(text.ends_with("2 of 3 sites answer; both agree (seongju is dark)"), "{text}");
    }

    #[test]
    fn a_site_far_behind_is_named_and_not_compared() {
        let mut all = [
            witness(1, "chungju", Some((9812, 7))),
            witness(2, "seongju", Some((9812, 7))),
            witness(3, "jeonju", Some((5, 1))),
        ];
        set_aside_far_behind(&mut all);
        assert_eq!(judge(&all), Verdict::Agree { revision: 9812, friends: 1604 });
        let text = sentence(&all, 9812, 1604);
        assert!(text.ends_with("both agree (jeonju is far behind, at revision 5)"), "{text}");
    }

    #[test]
    fn another_digest_at_the_same_revision_is_a_disagreement() {
        let all = [witness(1, "chungju", Some((3, 7))), witness(2, "seongju", Some((3, 8)))];
        assert_eq!(judge(&all), Verdict::Disagree { revision: 3 });
    }

    /// A site's view had dropped a channel; the check counted it as silent, said Yes and ended with 0.
    #[test]
    fn a_site_that_has_read_past_the_channel_and_does_not_know_it_disagrees() {
        let unknown = || Status::from(errors::Problem::new(v1::Reason::ChannelNotFound, "was never opened"));
        let mut all = [
            witness(1, "chungju", Some((3, 7))),
            witness(2, "seongju", Some((3, 7))),
            Witness { answer: Err(unknown()), lost: true, ..witness(3, "jeonju", None) },
        ];
        assert_eq!(judge(&all), Verdict::Disagree { revision: 3 });
        // One that has not read so far yet is not compared, and is not dark either.
        all[2].answer = Err(errors::Problem::new(v1::Reason::PositionNotReached, "not yet").into());
        all[2].lost = false;
        assert_eq!(judge(&all), Verdict::Agree { revision: 3, friends: 1604 });
        assert!(!all[2].is_dark() && witness(3, "jeonju", None).is_dark());
        assert!(sentence(&all, 3, 1604).ends_with("both agree (jeonju is behind)"));
    }

    #[test]
    fn who_has_read_less_far_is_asked_again() {
        let at = |sequence| {
            let mut one = witness(1, "chungju", Some((3, 7)));
            let position = Some(v1::Position { log: 1, sequence, term: 1 });
            one.answer.as_mut().unwrap().info = Some(v1::ReadInfo { position, ..Default::default() });
            one
        };
        let furthest = v1::Position { log: 1, sequence: 8, term: 1 };
        assert!(at(7).is_behind(&furthest) && !at(8).is_behind(&furthest));
        let unknown = Status::from(errors::Problem::new(v1::Reason::ChannelNotFound, "was never opened"));
        assert!(Witness { answer: Err(unknown), ..witness(3, "jeonju", None) }.is_behind(&furthest));
        assert!(!witness(2, "seongju", None).is_behind(&furthest), "it is dark");
    }

    #[test]
    fn silence_is_no_yes() {
        assert_eq!(judge(&[witness(1, "chungju", None)]), Verdict::Silence);
    }
}

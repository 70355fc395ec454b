//! Where voters may stand (invariant 7).
//!
//! No site holds a quorum by itself, or a fire there would take acknowledged events with it; and no site's loss removes
//! every quorum, or writes would end with it. Checked on each constituent configuration of a membership, voters only.

use std::collections::{BTreeMap, BTreeSet};

use sillok_wire::errors::Problem;
use sillok_wire::v1::Reason;

use crate::types::Member;

/// How an operator says it in so many words.
const OVERRIDE: &str = "to accept that all the same, say allow_single_site_quorum (CLI: --allow-single-site-quorum, \
                        config: cluster.allow_single_site_quorum = true)";

/// A configuration of voters that a single site could take down, or away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlacementError {
    /// Acknowledged events could stand at this site alone.
    #[error(
        "site {site} would hold {held} of {voters} voters ({nodes}), a quorum by itself: what is acknowledged there could \
         burn there; {OVERRIDE}"
    )]
    HoldsQuorum { site: String, nodes: String, held: usize, voters: usize },
    /// Writes would end with this site.
    #[error(
        "without site {site} only {left} of {voters} voters would be left and no quorum ({quorum}): its loss would end all \
         writes; put the voters at three sites or more, or {OVERRIDE}"
    )]
    NeededForQuorum { site: String, left: usize, voters: usize, quorum: usize },
    /// Nobody would vote.
    #[error("there would be no voter at all")]
    NoVoters,
}

impl From<PlacementError> for Problem {
    fn from(error: PlacementError) -> Problem {
        let message = error.to_string();
        let problem = Problem::new(Reason::PlacementRefused, message);
        match error {
            PlacementError::HoldsQuorum { site, .. } | PlacementError::NeededForQuorum { site, .. } => {
                problem.with("site", site)
            }
            PlacementError::NoVoters => problem,
        }
    }
}

/// How many of so many voters make a quorum.
pub(crate) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Checks one configuration. A voter that `members` does not describe counts as a site of its own.
pub(crate) fn check(voters: &BTreeSet<u64>, members: &BTreeMap<u64, Member>) -> Result<(), PlacementError> {
    if voters.is_empty() {
        return Err(PlacementError::NoVoters);
    }
    let needed = quorum(voters.len());
    let mut sites: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for id in voters {
        if let Some(member) = members.get(id) {
            sites.entry(&member.site).or_default().push(*id);
        }
    }
    for (site, nodes) in &sites {
        if nodes.len() >= needed {
            let names: Vec<String> = nodes.iter().map(|id| format!("node {id}")).collect();
            return Err(PlacementError::HoldsQuorum {
                site: (*site).to_owned(),
                nodes: names.join(", "),
                held: nodes.len(),
                voters: voters.len(),
            });
        }
    }
    for (site, nodes) in &sites {
        let left = voters.len() - nodes.len();
        if left < needed {
            return Err(PlacementError::NeededForQuorum {
                site: (*site).to_owned(),
                left,
                voters: voters.len(),
                quorum: needed,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(sites: &[&str]) -> (BTreeSet<u64>, BTreeMap<u64, Member>) {
        let members = (1..).zip(sites).map(|(id, site)| (id, Member { site: (*site).to_owned(), ..Member::default() }));
        let members: BTreeMap<u64, Member> = members.collect();
        (members.keys().copied().collect(), members)
    }

    #[test]
    fn three_archives_on_three_mountains_are_accepted() {
        let (voters, members) = at(&["chungju", "seongju", "jeonju"]);
        assert_eq!(check(&voters, &members), Ok(()));
    }

    #[test]
    fn two_of_three_nodes_at_one_site_are_refused_and_the_refusal_names_it_and_the_override() {
        let (voters, members) = at(&["chungju", "seongju", "chungju"]);
        let error = check(&voters, &members).unwrap_err();
        assert!(matches!(&error, PlacementError::HoldsQuorum { site, held: 2, voters: 3, .. } if site == "chungju"));
        let text = error.to_string();
        assert!(text.contains("chungju") && text.contains("node 1, node 3"), "{text}");
        assert!(text.contains("--allow-single-site-quorum"), "{text}");
    }

    #[test]
    fn one_node_and_two_nodes_are_refused_because_any_loss_ends_writes() {
        let (voters, members) = at(&["chungju"]);
        assert!(matches!(check(&voters, &members), Err(PlacementError::HoldsQuorum { .. })));
        let (voters, members) = at(&["chungju", "seongju"]);
        assert!(matches!(check(&voters, &members), Err(PlacementError::NeededForQuorum { left: 1, .. })));
    }

    #[test]
    fn four_voters_at_three_sites_are_refused_and_five_are_accepted() {
        let (voters, members) = at(&["chungju", "seongju", "jeonju", "chungju"]);
        let refused = check(&voters, &members);
        assert!(matches!(&refused, Err(PlacementError::NeededForQuorum { site, left: 2, .. }) if site == "chungju"));
        let (voters, members) = at(&["chungju", "seongju", "jeonju", "chungju", "seongju"]);
        assert_eq!(check(&voters, &members), Ok(()));
    }

    #[test]
    fn learners_do_not_count() {
        let (mut voters, members) = at(&["chungju", "seongju", "jeonju", "chungju", "chungju"]);
        voters.retain(|id| *id <= 3);
        assert_eq!(check(&voters, &members), Ok(()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn an_accepted_placement_keeps_a_quorum_whichever_site_burns(sites in prop::collection::vec(0u8..5, 1..9)) {
            let names: Vec<String> = sites.iter().map(|site| format!("s{site}")).collect();
            let (voters, members) = at(&names.iter().map(|name| &**name).collect::<Vec<_>>());
            let survives = names.iter().all(|burnt| {
                let left = names.iter().filter(|site| *site != burnt).count();
                left >= quorum(names.len()) && names.len() - left < quorum(names.len())
            });
            prop_assert_eq!(check(&voters, &members).is_ok(), survives);
        }
    }
}

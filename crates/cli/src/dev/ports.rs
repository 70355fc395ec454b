//! Ports of the three sites: the usual ones, others where those are busy, and the same again at the next start.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    time::{Duration, Instant},
};

use crate::{
    endpoints::{DevEndpoints, DevSite},
    failure::Failure,
};

const CLIENT: u16 = 7401;
const PEER: u16 = 7501;
const HTTP: u16 = 7601;
/// The next port to try after a busy one: the last digit goes on telling the site.
const STEP: u16 = 10;
const TRIES: u16 = 200;

/// Children of an earlier start end within moments of their parent.
const PATIENCE: Duration = Duration::from_secs(2);

/// Ports that are free now. `skipped`: so many sets of ports are passed over, for whoever lost a race for the first ones.
pub(super) fn choose(sites: &[&str], skipped: u16) -> Result<DevEndpoints, Failure> {
    let mut taken = BTreeSet::new();
    let mut chosen = Vec::new();
    for (index, site) in sites.iter().enumerate() {
        let offset = u16::try_from(index).unwrap_or(u16::MAX);
        let mut address = |base: u16| {
            let port = free_from(base + offset + skipped * STEP, &mut taken)
                .ok_or_else(|| Failure::usage(format!("no port from {base} on is free for {site}")))?;
            Ok::<String, Failure>(format!("127.0.0.1:{port}"))
        };
        chosen.push(DevSite {
            id: u64::from(offset) + 1,
            site: (*site).to_owned(),
            client: address(CLIENT)?,
            peer: address(PEER)?,
            http: address(HTTP)?,
        });
    }
    Ok(DevEndpoints { endpoints: chosen.iter().map(|site| site.client.clone()).collect(), sites: chosen })
}

fn free_from(first: u16, taken: &mut BTreeSet<u16>) -> Option<u16> {
    let candidates = (0..TRIES).filter_map(|step| first.checked_add(step * STEP));
    let port = candidates.into_iter().find(|port| !taken.contains(port) && is_free(&format!("127.0.0.1:{port}")))?;
    taken.insert(port);
    Some(port)
}

fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

/// The ports of an earlier start; those that somebody else has taken meanwhile move on. The nodes find each other all the
/// same: they are told every address, and know each other by more than that.
pub(super) async fn settle(known: &DevEndpoints, skipped: u16) -> DevEndpoints {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline && known.sites.iter().flat_map(addresses).any(|address| !is_free(address)) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut sites = known.sites.clone();
    let mut taken: BTreeSet<u16> = known.sites.iter().flat_map(addresses).filter_map(|address| port(address)).collect();
    for site in &mut sites {
        for address in [&mut site.client, &mut site.peer, &mut site.http] {
            if is_free(address) {
                continue;
            }
            if let Some(moved) = port(address).and_then(|port| free_from(port.checked_add(skipped * STEP)?, &mut taken))
            {
                *address = format!("127.0.0.1:{moved}");
            }
        }
    }
    DevEndpoints { endpoints: sites.iter().map(|site| site.client.clone()).collect(), sites }
}

fn addresses(site: &DevSite) -> [&String; 3] {
    [&site.client, &site.peer, &site.http]
}

fn port(address: &str) -> Option<u16> {
    address.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_moves_on_and_nobody_gets_the_same() {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let first = busy.local_addr().unwrap().port();
        let Some(beyond) = first.checked_add(STEP) else { return };
        let mut taken = BTreeSet::from([beyond]);
        if let Some(port) = free_from(first, &mut taken) {
            assert!(port > beyond, "{port} is neither busy nor taken");
            assert_eq!((port - first) % STEP, 0);
        }
    }

    #[test]
    fn every_site_has_three_ports_of_its_own() {
        let chosen = choose(&["chungju", "seongju", "jeonju"], 0).unwrap();
        let all: BTreeSet<&String> =
            chosen.sites.iter().flat_map(|site| [&site.client, &site.peer, &site.http]).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(chosen.endpoints.len(), 3);
        assert_eq!(chosen.sites.iter().map(|site| site.id).collect::<Vec<_>>(), [1, 2, 3]);
    }

    #[tokio::test]
    async fn remembered_ports_are_used_again_and_only_what_is_busy_moves() {
        let chosen = choose(&["chungju"], 0).unwrap();
        assert_eq!(settle(&chosen, 0).await, chosen);
        let Ok(_busy) = TcpListener::bind(&chosen.sites[0].peer) else { return };
        let moved = settle(&chosen, 0).await;
        assert_ne!(moved.sites[0].peer, chosen.sites[0].peer);
        assert_eq!((&moved.sites[0].client, &moved.endpoints), (&chosen.sites[0].client, &chosen.endpoints));
    }
}

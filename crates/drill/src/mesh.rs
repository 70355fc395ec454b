//! A link for each ordered pair of nodes, and faults between nodes in terms of them.

use std::{collections::BTreeMap, net::SocketAddr};

use crate::{
    DrillError,
    link::{Condition, Link, Way},
};

/// Links by (who connects, to whom).
#[derive(Debug)]
pub struct Mesh {
    links: BTreeMap<(u64, u64), Link>,
}

impl Mesh {
    /// Sound links between all of these nodes, by id and peer address.
    pub(crate) async fn open(peers: &[(u64, SocketAddr)], seed: u64) -> Result<Mesh, DrillError> {
        let mut links = BTreeMap::new();
        for &(from, _) in peers {
            for &(to, address) in peers.iter().filter(|(to, _)| *to != from) {
                let link = Link::open(address, seed ^ (from << 32 | to)).await.map_err(DrillError::Ports)?;
                links.insert((from, to), link);
            }
        }
        Ok(Mesh { links })
    }

    /// Where `from` finds `to`.
    pub(crate) fn address(&self, from: u64, to: u64) -> Option<SocketAddr> {
        self.links.get(&(from, to)).map(Link::address)
    }

    /// Nothing that `from` says reaches `to`: requests on the connections it opened, answers on those it took.
    pub fn silence(&self, from: u64, to: u64) {
        self.each(from, to, |way| way.held = true);
    }

    /// Everything that `from` says reaches `to` late, and some of it only when it is sent again.
    pub fn slow(&self, from: u64, to: u64, how: Way) {
        self.each(from, to, |way| *way = Way { held: way.held, ..how });
    }

    fn each(&self, from: u64, to: u64, change: impl Fn(&mut Way)) {
        if let Some(link) = self.links.get(&(from, to)) {
            link.change(|condition| change(&mut condition.up));
        }
        if let Some(link) = self.links.get(&(to, from)) {
            link.change(|condition| change(&mut condition.down));
        }
    }

    /// Resets what stands between two nodes, and lets nothing new through.
    pub fn cut(&self, a: u64, b: u64) {
        self.between(a, b, |condition| condition.cut = true);
    }

    /// Lets connections between two nodes be made again.
    pub fn mend(&self, a: u64, b: u64) {
        self.between(a, b, |condition| condition.cut = false);
    }

    fn between(&self, a: u64, b: u64, change: impl Fn(&mut Condition)) {
        for link in [(a, b), (b, a)].iter().filter_map(|pair| self.links.get(pair)) {
            link.change(&change);
        }
    }

    /// Every link is sound again.
    pub fn heal(&self) {
        self.links.values().for_each(Link::heal);
    }
}

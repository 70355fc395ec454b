//! Who replaces nodes: asks one node after another, as `sillok cluster replace` does, until it is done.

use std::{rc::Rc, time::Duration};

use rand::Rng as _;
use sillok_wire::v1;
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{plan::stream, world::Shared};

/// Another node is asked after this long: the order can be given again to any.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts node `new` in the place of node `old`, however often that must be asked for.
pub async fn replace(shared: Rc<Shared>, old: u64, new: u64) -> turmoil::Result {
    let mut random = stream(shared.plan.seed, &format!("operator {new}"));
    loop {
        let up: Vec<u64> = shared.up().into_iter().filter(|id| *id != old && *id != new).collect();
        if !up.is_empty() {
            let at = up[random.random_range(0..up.len())];
            match ask(&shared, at, old, new).await {
                Ok(()) => break,
                Err(why) => shared.say(format!("node {at} does not replace {old} by {new}: {why}")),
            }
        }
        sleep(Duration::from_millis(random.random_range(50..400))).await;
    }
    shared.replaced(old, new);
    std::future::pending().await
}

async fn ask(shared: &Shared, at: u64, old: u64, new: u64) -> Result<(), String> {
    let node = Some(shared.site(new).described());
    let request = v1::ReplaceNodeRequest { node_id: old, node, allow_single_site_quorum: false };
    let (done, wait) = oneshot::channel();
    let orders = shared.site(at).orders.borrow().clone().ok_or("it is down")?;
    orders.send((request, done)).map_err(|_| "it is down")?;
    match timeout(PATIENCE, wait).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => Err("it went down".to_owned()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

//! Who replaces nodes: asks one node after another, as `sillok cluster replace` does, until it is done.

use std::{rc::Rc, time::Duration};

use rand::Rng as _;
use sillok_wire::v1::{self, cluster_client::ClusterClient};
use tokio::time::{sleep, timeout};

use crate::{
    clients::connect,
    plan::stream,
    site::{CLIENT_PORT, host},
    world::Shared,
};

/// Another node is asked after this long: the order can be given again to any.
const PATIENCE: Duration = Duration::from_secs(10);

/// Puts node `new` in the place of node `old`, however often that must be asked for.
pub async fn replace(shared: Rc<Shared>, old: u64, new: u64) {
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
}

async fn ask(shared: &Shared, at: u64, old: u64, new: u64) -> Result<(), String> {
    let node = Some(shared.site(new).described());
    let request = v1::ReplaceNodeRequest { node_id: old, node, allow_single_site_quorum: false };
    let client = connect(&[at]).build().map_err(|error| error.to_string())?;
    let channel = client.channel(&format!("{}:{CLIENT_PORT}", host(at))).ok_or("it has no client port")?;
    match timeout(PATIENCE, ClusterClient::new(channel).replace_node(request)).await {
        Ok(answer) => answer.map(drop).map_err(|status| status.message().to_owned()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}

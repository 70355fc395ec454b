//! A peer whose machine is up and whose process is down refuses connections at once.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use super::harness::{Cluster, write};
use crate::{Connection, Incoming, Transport};

/// The machine's TCP, with a count of the connections that were refused.
#[derive(Default)]
struct Counting(Arc<AtomicU64>);

impl Transport for Counting {
    fn listen(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Incoming>> {
        async move {
            let listener = TcpListener::bind(address).await?;
            let incoming = stream::unfold(listener, |listener| async move {
                let accepted = listener.accept().await.map(|(stream, _)| Connection::new(stream));
                Some((accepted, listener))
            });
            Ok(incoming.boxed())
        }
        .boxed()
    }

    fn connect(&self, address: String) -> BoxFuture<'static, io::Result<Connection>> {
        let refused = self.0.clone();
        async move {
            let connected = TcpStream::connect(address).await;
            refused.fetch_add(u64::from(connected.is_err()), Ordering::Relaxed);
            Ok(Connection::new(connected?))
        }
        .boxed()
    }
}

/// Found by the simulation, where no time passes between two calls: a follower's process was down, its machine refused each
/// connection at once, and the leader opened its append stream again and again without a pause, for as long as the follower
/// was away. openraft's backoff waits within the stream of requests, and nobody looked into that before the stream was open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_pauses_between_calls_to_a_peer_that_refuses_them() {
    let refused = Arc::new(AtomicU64::new(0));
    let mut cluster = Cluster::formed_with(|options| {
        options.transport = Some(Arc::new(Counting(refused.clone())));
    })
    .await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    write(cluster.core(leader), 1).await;
    cluster.kill(follower).await;
    let leader = cluster.leader().await;
    let (begun, before) = (Instant::now(), refused.load(Ordering::Relaxed));
    for marker in 2.. {
        write(cluster.core(leader), marker).await;
        sleep(Duration::from_millis(20)).await;
        if begun.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    let calls = refused.load(Ordering::Relaxed) - before;
    // A heartbeat every 60 ms, append streams after 10, 20, 40 ms …, and whoever asks how the follower is.
    let bound = 50 + begun.elapsed().as_millis() as u64 / 10;
    assert!(calls > 0, "nobody called the follower that was down, and this test tests nothing");
    assert!(calls <= bound, "{calls} calls to a peer that refuses them in {:?}", begun.elapsed());
}

//! Faults of one network link without privileges: a TCP proxy between two nodes.
//!
//! Each directed link carries the connections that one node opens to another. Its two ways can be held independently:
//!
//! ```text
//!  node 1 ── up: requests ──────►  proxy  ── up ──►  node 2
//!         ◄─ down: answers ──────        ◄─ down ──
//! ```
//! A *held* way keeps every byte and lets nothing through, as a network does that loses every packet: connections stay open,
//! and what was on the way arrives once it is let go, because TCP sends again. A *cut* link resets its connections and takes
//! no new ones. Memory is bounded: a way that is full stops reading, and the sender sees back pressure.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// The most that is read at once, in bytes.
const CHUNK_BYTES: usize = 16 << 10;
/// Chunks on the way in one direction of one connection: at most 16 MiB, and many small ones on a long way.
const CHUNKS: usize = 1024;
/// What a lost packet costs: the shortest time after which Linux sends again.
const SENT_AGAIN_AFTER: Duration = Duration::from_millis(200);

/// How one way of a link is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Way {
    /// Nothing comes through until it is let go.
    pub held: bool,
    /// Every byte arrives this much later.
    pub delay: Duration,
    /// The share of chunks that are lost once and sent again 200 ms later, 0 to 1.
    pub loss: f64,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Condition {
    /// From the node that connects.
    pub up: Way,
    /// To the node that connects.
    pub down: Way,
    /// No connection stands or is taken.
    pub cut: bool,
    /// Connections of an earlier generation are reset.
    generation: u64,
}

/// One directed link. Ends with its last connection when dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    condition: watch::Sender<Condition>,
    accepting: JoinHandle<()>,
}

impl Link {
    /// A sound link to `target`. The seed decides which chunks are lost. Must be called within a runtime.
    ///
    /// # Errors
    /// No port can be listened on.
    pub async fn open(target: SocketAddr, seed: u64) -> std::io::Result<Link> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (condition, seen) = watch::channel(Condition::default());
        let accepting = tokio::spawn(accept(listener, target, seen, seed));
        Ok(Link { address, condition, accepting })
    }

    /// Where the node connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is now.
    pub fn condition(&self) -> Condition {
        *self.condition.borrow()
    }

    /// Changes how it is; connections notice at once.
    pub fn change(&self, change: impl FnOnce(&mut Condition)) {
        self.condition.send_modify(change);
    }

    /// Resets every connection there is; new ones are taken.
    pub fn drop_connections(&self) {
        self.change(|condition| condition.generation += 1);
    }

    /// Sound again. Connections that were not reset go on.
    pub fn heal(&self) {
        self.change(|condition| *condition = Condition { generation: condition.generation, ..Condition::default() });
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, condition: watch::Receiver<Condition>, seed: u64) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    for number in 0_u64.. {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) if !condition.borrow().cut => {
                    let random = StdRng::seed_from_u64(seed ^ number);
                    connections.spawn(connection(near, target, condition.clone(), random));
                }
                // Dropped, which closes it.
                Ok(_) => {}
                // Out of descriptors: the node tries again, and so does this.
                Err(error) => {
                    tracing::warn!(%error, "a link cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(near: TcpStream, target: SocketAddr, condition: watch::Receiver<Condition>, mut random: StdRng) {
    let mut watched = condition.clone();
    let born = watched.borrow_and_update().generation;
    let work = async {
        let Ok(far) = TcpStream::connect(target).await else { return };
        // Small messages are the rule; a socket that refuses the option still carries them.
        let _ = near.set_nodelay(true);
        let _ = far.set_nodelay(true);
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        let (up, down) = (StdRng::from_rng(&mut random), StdRng::from_rng(&mut random));
        tokio::join!(
            carry(near_read, far_write, condition.clone(), |now| now.up, up),
            carry(far_read, near_write, condition.clone(), |now| now.down, down),
        );
    };
    let ended = watched.wait_for(|now| now.cut || now.generation != born);
    // Either way both sockets are closed here.
    tokio::select! {
        () = work => {}
        _ = ended => {}
    }
}

/// One way of one connection, until its end or an error of either socket, which ends this way alone: the other end notices.
async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    condition: watch::Receiver<Condition>,
    way: fn(&Condition) -> Way,
    mut random: StdRng,
) {
    let (send, mut receive) = mpsc::channel::<(Instant, Arc<[u8]>)>(CHUNKS);
    let reading = {
        let condition = condition.clone();
        async move {
            let mut buffer = vec![0; CHUNK_BYTES];
            let mut last_due = Instant::now();
            while let Ok(length @ 1..) = from.read(&mut buffer).await {
                let now = way(&condition.borrow());
                let mut due = Instant::now() + now.delay;
                if now.loss > 0.0 && random.random_bool(now.loss.clamp(0.0, 1.0)) {
                    due += SENT_AGAIN_AFTER;
                }
                // Bytes never overtake each other.
                last_due = last_due.max(due);
                if send.send((last_due, Arc::from(&buffer[..length]))).await.is_err() {
                    break;
                }
            }
        }
    };
    let writing = async move {
        let mut condition = condition;
        while let Some((due, bytes)) = receive.recv().await {
            // The timer goes by whole milliseconds: a way without delay waits for none of them.
            if due > Instant::now() {
                sleep_until(due).await;
            }
            if condition.wait_for(|now| !way(now).held).await.is_err() || to.write_all(&bytes).await.is_err() {
                return;
            }
        }
        // A half-closed connection stays half-closed on the other side.
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A node that answers every byte with the same byte, behind a link.
    async fn echo() -> (Link, JoinHandle<()>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let link = Link::open(listener.local_addr().unwrap(), 1).await.unwrap();
        let serving = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        (link, serving)
    }

    async fn ask(stream: &mut TcpStream, byte: u8) -> std::io::Result<u8> {
        stream.write_all(&[byte]).await?;
        stream.read_u8().await
    }

    /// Nothing at all within this is nothing.
    const SILENCE: Duration = Duration::from_millis(150);

    #[tokio::test]
    async fn a_held_way_keeps_every_byte_and_gives_them_all_back() {
        let (link, _serving) = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 1);
        for hold in [|c: &mut Condition| c.up.held = true, |c: &mut Condition| c.down.held = true] {
            link.change(hold);
            stream.write_all(&[2, 3]).await.unwrap();
            assert!(timeout(SILENCE, stream.read_u8()).await.is_err(), "a byte came through a held way");
            link.heal();
            assert_eq!((stream.read_u8().await.unwrap(), stream.read_u8().await.unwrap()), (2, 3));
        }
    }

    #[tokio::test]
    async fn a_cut_link_has_no_connections_until_it_is_healed() {
        let (link, _serving) = echo().await;
        let mut before = TcpStream::connect(link.address()).await.unwrap();
        ask(&mut before, 1).await.unwrap();
        link.change(|condition| condition.cut = true);
        assert!(ask(&mut before, 2).await.is_err(), "an old connection goes on");
        let mut during = TcpStream::connect(link.address()).await.unwrap();
        assert!(ask(&mut during, 3).await.is_err(), "a new connection goes through");
        link.heal();
        let mut after = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut after, 4).await.unwrap(), 4);
    }

    #[tokio::test]
    async fn dropped_connections_can_be_made_again_at_once() {
        let (link, _serving) = echo().await;
        let mut before = TcpStream::connect(link.address()).await.unwrap();
        ask(&mut before, 1).await.unwrap();
        link.drop_connections();
        assert!(ask(&mut before, 2).await.is_err());
        let mut after = TcpStream::connect(link.address()).await.unwrap();
        assert_eq!(ask(&mut after, 3).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn delay_and_loss_make_bytes_late_and_lose_none() {
        let (link, _serving) = echo().await;
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        ask(&mut stream, 0).await.unwrap();
        let delay = Duration::from_millis(30);
        link.change(|condition| condition.up.delay = delay);
        let asked = Instant::now();
        assert_eq!(ask(&mut stream, 1).await.unwrap(), 1);
        assert!(asked.elapsed() >= delay);
        link.change(|condition| condition.down.loss = 1.0);
        let asked = Instant::now();
        assert_eq!(ask(&mut stream, 2).await.unwrap(), 2);
        assert!(asked.elapsed() >= delay + SENT_AGAIN_AFTER);
    }

    #[tokio::test]
    async fn what_is_on_the_way_is_bounded() {
        let (link, _serving) = echo().await;
        link.change(|condition| condition.up.held = true);
        let mut stream = TcpStream::connect(link.address()).await.unwrap();
        let flood = vec![7; 64 << 20];
        let sent = timeout(Duration::from_secs(2), stream.write_all(&flood)).await;
        assert!(sent.is_err(), "64 MiB went into a held link");
    }
}

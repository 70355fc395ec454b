//! Loopback ports for nodes that are started, killed and started again at the same place.

use std::{
    io,
    net::{Ipv4Addr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below what systems give to connections by themselves (Linux: from 32768, BSD and Windows: from 49152): a port that is free
/// stays so while its node is down.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// `count` ports of 127.0.0.1 that are free, each given once by this process; other processes begin elsewhere.
///
/// # Errors
/// `AddrInUse` where there are not so many.
pub fn free(count: usize) -> io::Result<Vec<u16>> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(97);
    let next = || {
        let n = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        FIRST + (n % u32::from(COUNT)) as u16
    };
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let ports: Vec<u16> = std::iter::repeat_with(next).take(COUNT.into()).filter(is_free).take(count).collect();
    if ports.len() < count {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, format!("fewer than {count} ports are free")));
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ports were asked of the system, which gave one of them to a connection before its node listened there.
    #[test]
    fn ports_are_below_those_of_connections_and_given_once() {
        let first = free(5).unwrap();
        let held: Vec<TcpListener> =
            first.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap()).collect();
        let second = free(5).unwrap();
        assert!(first.iter().chain(&second).all(|port| (FIRST..FIRST + COUNT).contains(port)));
        assert!(second.iter().all(|port| !first.contains(port)));
        drop(held);
    }
}

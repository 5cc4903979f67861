//! A loopback address per sandbox and collector.
//!
//! Lambda's ports are fixed (9001, 8990, 4317, 4318), and tests run in parallel threads and processes. All of 127.0.0.0/8 is
//! loopback, so each sandbox and each collector claims an address and keeps the real ports. It claims the address by binding
//! port 9001: the kernel is the lock across processes, and releases it when the holder dies.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::net::TcpListener;

/// The port of Lambda's Runtime and Extensions API.
pub(crate) const API_PORT: u16 = 9001;

const ATTEMPTS: u32 = 4_096;

/// The number of addresses already tried by this process; the next attempt continues from there.
static TRIED: AtomicU32 = AtomicU32::new(0);

/// Claims a free address for as long as the listener lives.
pub(crate) async fn claim() -> io::Result<(Ipv4Addr, TcpListener)> {
    for _ in 0..ATTEMPTS {
        let ip = candidate(std::process::id(), TRIED.fetch_add(1, Ordering::Relaxed));
        match TcpListener::bind(SocketAddrV4::new(ip, API_PORT)).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other.map(|listener| (ip, listener)),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        "port 9001 is taken on every loopback address tried; something listens on 0.0.0.0:9001",
    ))
}

/// The address for an attempt. Processes start far apart, so that they seldom collide. It is never in 127.0.0.0/16, which all
/// other programs use.
fn candidate(process: u32, attempt: u32) -> Ipv4Addr {
    let [_, _, high, low] = process.wrapping_mul(977).wrapping_add(attempt).to_be_bytes();
    let block = 16 + (process.wrapping_mul(977).wrapping_add(attempt) >> 16) % 200;
    // The last octet is never 0 or 255, which some resolvers and people mistake for a network.
    Ipv4Addr::new(127, u8::try_from(block).unwrap_or(16), high, low.clamp(1, 254))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn no_two_holders_share_an_address() {
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(claim().await.unwrap());
        }
        let distinct: HashSet<_> = held.iter().map(|(ip, _)| ip).collect();
        assert_eq!(distinct.len(), held.len());
    }
}

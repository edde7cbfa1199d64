//! A port for a server under test, and the port that a server listens on by mistake.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

/// Where ports are looked for: below those that systems hand out to clients, so that no
/// connection of a neighbouring check takes one between the choice and the server's start.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port that nobody listens on and that no other check of this run gets.
pub(crate) fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test programs that run side by side have process ids side by side: begin far apart.
    let start = process::id().wrapping_mul(97);
    loop {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start.wrapping_add(step)) % u32::from(COUNT)).unwrap_or(0);
        let port = FIRST + offset;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Ports that people choose when they do not read `PORT`.
const USUAL: [u16; 9] = [4221, 8080, 8000, 3000, 5000, 7878, 8888, 8081, 80];

/// Which of the usual ports, and of those named in `output`, somebody listens on.
pub(crate) fn listening(output: &str) -> Vec<u16> {
    let numbers = output.split(|character: char| !character.is_ascii_digit());
    let mut ports: Vec<u16> = numbers.filter_map(|number| number.parse().ok()).collect();
    ports.retain(|&port| port >= 1000);
    ports.extend(USUAL);
    ports.retain(|&port| is_taken(port));
    ports
}

/// Whether somebody listens on a port of 127.0.0.1. Windows takes two seconds to refuse a connection; elsewhere binding may succeed beside a
/// server that listens on all addresses.
pub(crate) fn is_taken(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if cfg!(windows) {
        TcpListener::bind(address).is_err()
    } else {
        TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_ok()
    }
}

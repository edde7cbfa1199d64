//! A port for a server under test, and the ports that a server listens on by mistake.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

use socket2::{Domain, Socket, Type};

/// The first port to try, and the number of ports. They are below the ports that systems give to clients, so
/// that no connection of another check takes the port before the server starts.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

/// A port for one check. No other check of any program gets it until this is dropped.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) number: u16,
    /// The UDP port of the same number. It does not disturb the server, because TCP has its own ports. But
    /// every check binds the UDP port before it chooses a port, so this claims the TCP port as well.
    _claim: Option<UdpSocket>,
}

impl Port {
    /// The port that the user chose.
    pub(crate) fn fixed(number: u16) -> Port {
        Port { number, _claim: None }
    }

    /// A port that no program uses. The caller must not start a program at the same time: it would inherit the
    /// socket that this binds as a test, and keep the port in use for longer.
    pub(crate) fn free() -> Port {
        static START: OnceLock<u64> = OnceLock::new();
        static NEXT: AtomicU16 = AtomicU16::new(0);
        // Each test program begins at a random port, so that programs that run side by side rarely collide.
        let start = START.get_or_init(|| RandomState::new().build_hasher().finish());
        loop {
            let step = u64::from(NEXT.fetch_add(1, Ordering::Relaxed));
            let offset = start.wrapping_add(step) % u64::from(COUNT);
            let number = FIRST + u16::try_from(offset).unwrap_or(0);
            match UdpSocket::bind((LOCALHOST, number)) {
                Ok(claim) if !is_in_use(number) => return Port { number, _claim: Some(claim) },
                _ => {}
            }
        }
    }
}

/// Whether a port is in use, even if only by a connection that closed a moment ago. Some servers cannot bind
/// such a port. The listener of the standard library could, so this uses a socket without SO_REUSEADDR.
fn is_in_use(port: u16) -> bool {
    let address = SocketAddr::from((LOCALHOST, port));
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None);
    socket.and_then(|socket| socket.bind(&address.into())).is_err()
}

/// Whether a port accepts connections. (To connect would be slow on Windows, which needs two seconds to refuse
/// a connection.)
pub(crate) fn answers(port: u16) -> bool {
    if cfg!(windows) {
        TcpListener::bind((LOCALHOST, port)).is_err()
    } else {
        TcpStream::connect((LOCALHOST, port)).is_ok()
    }
}

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Ports that people choose when they do not read `PORT`.
const USUAL: [u16; 9] = [4221, 8080, 8000, 3000, 5000, 7878, 8888, 8081, 80];

/// Which of the usual ports, and of the ports named in `output`, accept connections.
pub(crate) fn listening(output: &str) -> Vec<u16> {
    let numbers = output.split(|character: char| !character.is_ascii_digit());
    let mut ports: Vec<u16> = numbers.filter_map(|number| number.parse().ok()).collect();
    ports.retain(|&port| port >= 1000);
    ports.extend(USUAL);
    ports.retain(|&port| answers(port));
    ports
}

/// The addresses on which these processes listen. `None` if the system does not tell: only Linux does.
pub(crate) fn of_processes(ids: &[u32]) -> Option<Vec<SocketAddr>> {
    let tables = tables();
    if tables.is_empty() {
        return None;
    }
    let sockets: Vec<String> = ids.iter().flat_map(|id| sockets_of(*id)).collect();
    let lines = tables.iter().flat_map(|table| lines_of(table));
    let listening = lines.filter_map(|line| {
        let [local, _, "0A", _, _, _, _, _, inode, ..] = line[..] else { return None };
        sockets.iter().any(|it| it == inode).then(|| parse_address(local))?
    });
    Some(listening.collect())
}

/// Whether a client that connects to this port of 127.0.0.1 reaches a socket that listens on this address.
pub(crate) fn reaches_localhost(address: &SocketAddr, port: u16) -> bool {
    let is_everywhere = address.ip().is_unspecified(); // on Linux, `::` is for IPv4 as well
    address.port() == port && (is_everywhere || address.ip() == LOCALHOST)
}

/// The tables of TCP connections that Linux keeps (see proc(5)).
fn tables() -> Vec<String> {
    let paths = ["/proc/net/tcp", "/proc/net/tcp6"];
    paths.iter().filter_map(|path| fs::read_to_string(path).ok()).collect()
}

/// The lines of a table as words: local address, remote address, state (0A: listening), queues,
/// timer, retransmissions, user, timeout, inode.
fn lines_of(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().skip(1).collect()).collect()
}

/// The inodes of the sockets that a process has open.
fn sockets_of(id: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    let names = links.map(|link| link.to_string_lossy().into_owned());
    names
        .filter_map(|it| Some(it.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned()))
        .collect()
}

/// Parses an address such as `0100007F:107D`: four or sixteen bytes, in words in the machine's byte order.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::new();
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?),
    };
    Some(SocketAddr::new(address, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[cfg(target_os = "linux")]
    #[test]
    fn finds_where_a_process_listens() {
        let four = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = four.local_addr().expect("the listener is bound");
        let found = of_processes(&[std::process::id()]).expect("Linux lists listening sockets");
        assert!(found.contains(&address));
    }

    #[test]
    fn a_port_is_given_once() {
        let ports: Vec<_> = (0..20).map(|_| Port::free()).collect();
        for port in &ports {
            assert!(UdpSocket::bind((LOCALHOST, port.number)).is_err());
            assert!(!answers(port.number));
        }
    }

    #[test]
    fn knows_who_can_be_reached() {
        for (address, reached) in [
            ("127.0.0.1:80", true),
            ("0.0.0.0:80", true),
            ("[::]:80", true),
            ("[::1]:80", false),
            ("127.0.0.2:80", false),
            ("127.0.0.1:81", false),
        ] {
            let parsed = address.parse().expect("an address");
            assert_eq!(reaches_localhost(&parsed, 80), reached, "{address}");
        }
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn reads_addresses() {
        assert_eq!(parse_address("0100007F:107D"), "127.0.0.1:4221".parse().ok());
        let six = "00000000000000000000000001000000:107D";
        assert_eq!(parse_address(six), "[::1]:4221".parse().ok());
        assert_eq!(parse_address("0100007F"), None);
    }
}

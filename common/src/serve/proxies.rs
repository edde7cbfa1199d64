//! Who a request is from, when it comes through proxies (stage 18's lasting form).
//!
//! A proxy adds the address from which it got a request to the end of a list. So the list is true on the right, as far
//! as proxies that are trusted have written it, and everything before that may have been made up by the client.

use std::net::IpAddr;
use std::str::FromStr;

use crate::message::headers::Headers;

/// The proxies whose word counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Network>);

/// A block of addresses, such as `10.0.0.0/8`, or a single one (RFC 4632, section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    /// How many bits at the beginning of an address count.
    prefix: u8,
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| format!("{address} is no address"))?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).ok().filter(|bits| *bits <= most);
        let prefix = prefix.ok_or_else(|| format!("write the block as {address}/{most}"))?;
        Ok(Network { address, prefix })
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let same = |a: &[u8], b: &[u8]| {
            let (bytes, bits) = (usize::from(self.prefix / 8), self.prefix % 8);
            let rest = |byte: u8| byte.checked_shr(8 - u32::from(bits)).unwrap_or_default();
            a[..bytes] == b[..bytes] && (bits == 0 || rest(a[bytes]) == rest(b[bytes]))
        };
        match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same(&a.octets(), &b.octets()),
            (IpAddr::V6(a), IpAddr::V6(b)) => same(&a.octets(), &b.octets()),
            _ => false,
        }
    }
}

impl Proxies {
    /// Trusts the proxies with these addresses.
    pub fn new(networks: impl IntoIterator<Item = Network>) -> Proxies {
        Proxies(networks.into_iter().collect())
    }

    /// Whether an address is that of a proxy that is trusted.
    pub(crate) fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }

    /// Returns the address of the client: the one on the right of `Forwarded` (RFC 7239), or else of
    /// `X-Forwarded-For`, that is no proxy. Where the list has no address, the last one that is known stands.
    pub(crate) fn client(&self, peer: IpAddr, headers: Headers) -> IpAddr {
        let mut client = peer.to_canonical();
        let has_standard = headers.get("Forwarded").is_some();
        let name = if has_standard { "Forwarded" } else { "X-Forwarded-For" };
        let hops: Vec<_> = headers.list(name).collect();
        for hop in hops.into_iter().rev() {
            if !self.trust(client) {
                break;
            }
            let hop = std::str::from_utf8(hop).ok();
            let node = if has_standard { hop.and_then(forwarded_for) } else { hop };
            let Some(address) = node.and_then(address) else { break };
            client = address.to_canonical();
        }
        client
    }
}

/// The node in `for=192.0.2.60;proto=http`, or in `For="[2001:db8::1]:4711"` (RFC 7239, section 4).
fn forwarded_for(element: &str) -> Option<&str> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, node) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    let node = node.trim();
    Some(node.strip_prefix('"').and_then(|node| node.strip_suffix('"')).unwrap_or(node))
}

/// An address, perhaps with a port. One of IPv6 may be in brackets.
fn address(node: &str) -> Option<IpAddr> {
    if let Some((address, _)) = node.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse().ok().map(IpAddr::V6);
    }
    match node.split_once(':') {
        Some((address, port)) if !port.contains(':') => address.parse().ok(),
        _ => node.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::testing::see;
    use pretty_assertions::assert_eq;

    fn client(trusted: &[&str], peer: &str, fields: &str) -> String {
        let networks = trusted.iter().map(|text| text.parse().expect("a network"));
        let peer = peer.parse().expect("an address");
        let proxies = Proxies::new(networks);
        see(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"), |request| {
            proxies.client(peer, request.headers()).to_string()
        })
    }

    #[test]
    fn the_list_counts_from_the_right_as_far_as_it_is_trusted() {
        let local = &["127.0.0.1", "10.0.0.0/8"][..];
        for (trusted, peer, fields, expected) in [
            (&[][..], "127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "127.0.0.1"),
            (local, "9.9.9.9", "X-Forwarded-For: 1.2.3.4\r\n", "9.9.9.9"),
            (local, "127.0.0.1", "", "127.0.0.1"),
            (local, "127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"),
            (local, "127.0.0.1", "X-Forwarded-For: 5.6.7.8, 1.2.3.4\r\n", "1.2.3.4"),
            (local, "127.0.0.1", "X-Forwarded-For: 5.6.7.8, 10.1.2.3\r\n", "5.6.7.8"),
            (
                local,
                "127.0.0.1",
                "X-Forwarded-For: 5.6.7.8\r\nX-Forwarded-For: 1.2.3.4\r\n",
                "1.2.3.4",
            ),
            (local, "127.0.0.1", "X-Forwarded-For: 10.1.1.1, 10.1.2.3\r\n", "10.1.1.1"),
            (local, "127.0.0.1", "X-Forwarded-For: 5.6.7.8, what?\r\n", "127.0.0.1"),
            (local, "127.0.0.1", "X-Forwarded-For: 5.6.7.8, unknown, 10.1.2.3\r\n", "10.1.2.3"),
            (local, "127.0.0.1", "X-Forwarded-For: 1.2.3.4:5678\r\n", "1.2.3.4"),
            (local, "127.0.0.1", "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
            (local, "127.0.0.1", "X-Forwarded-For: ::ffff:1.2.3.4\r\n", "1.2.3.4"),
            (local, "::ffff:127.0.0.1", "X-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"),
            (local, "127.0.0.1", "Forwarded: for=1.2.3.4;proto=https\r\n", "1.2.3.4"),
            (
                local,
                "127.0.0.1",
                "Forwarded: proto=https;For=\"[2001:db8::1]:4711\"\r\n",
                "2001:db8::1",
            ),
            (local, "127.0.0.1", "Forwarded: for=5.6.7.8, for=10.0.0.1\r\n", "5.6.7.8"),
            (local, "127.0.0.1", "Forwarded: for=_hidden\r\n", "127.0.0.1"),
            (
                local,
                "127.0.0.1",
                "Forwarded: for=1.2.3.4\r\nX-Forwarded-For: 5.6.7.8\r\n",
                "1.2.3.4",
            ),
        ] {
            assert_eq!(client(trusted, peer, fields), expected, "{peer} {fields}");
        }
    }

    #[test]
    fn a_block_is_the_beginning_of_its_addresses() {
        for (block, address, expected) in [
            ("10.0.0.0/8", "10.255.0.1", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.168.4.0/22", "192.168.7.255", true),
            ("192.168.4.0/22", "192.168.8.0", false),
            ("127.0.0.1", "127.0.0.2", false),
            ("0.0.0.0/0", "1.2.3.4", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
        ] {
            let network: Network = block.parse().expect("a block");
            assert_eq!(
                network.contains(address.parse().expect("an address")),
                expected,
                "{block} {address}"
            );
        }
        for wrong in ["", "localhost", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/-1", "::/129"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
    }
}

//! How often an address may ask (stage 18's lasting form).

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::message::response::Response;
use crate::protocol::request::Request;

/// How many groups of buckets there are. The group of an address follows from its hash, which nobody outside knows.
const GROUPS: usize = 4096;

/// How many addresses a group remembers.
const GROUP: usize = 4;

/// Buckets of tokens: each address has one, each request takes a token, and time puts new ones in.
///
/// The table takes half a megabyte, whatever happens. A new address takes the place of the one in its group that has
/// the most tokens, so of one that has been quiet.
pub(crate) struct RateLimit {
    /// Tokens for a second, and the most that a bucket holds.
    rate: f64,
    hasher: RandomState,
    groups: Vec<Mutex<[Option<Bucket>; GROUP]>>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    address: IpAddr,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    fn tokens_at(&self, now: Instant, rate: f64) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled);
        (self.tokens + elapsed.as_secs_f64() * rate).min(rate)
    }
}

impl RateLimit {
    /// Allows this many requests a second for each address, and as many at once.
    pub(crate) fn new(rate: u32) -> RateLimit {
        let groups = (0..GROUPS).map(|_| Mutex::default()).collect();
        RateLimit { rate: rate.into(), hasher: RandomState::new(), groups }
    }

    /// Answers 429 if the client asks too often (RFC 6585, section 4). Whether the server is alive may be asked at any
    /// time.
    pub(crate) fn answer(
        &self,
        request: &Request,
        now: Instant,
        next: impl FnOnce() -> Response,
    ) -> Response {
        let client = request.client().filter(|_| request.full_path().raw() != "healthz");
        match client.map_or(Ok(()), |client| self.take(client, now)) {
            Ok(()) => next(),
            Err(wait) => {
                let seconds = wait.as_secs_f64().ceil().max(1.0);
                Response::new(429).header("Retry-After", seconds.to_string())
            }
        }
    }

    /// Takes a token of an address, or says how long it has to wait for one. The addresses of a network of IPv6, of
    /// which a client has 2 to the power of 64, share a bucket.
    pub(crate) fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let address = network(address);
        let index = self.hasher.hash_one(address) as usize % GROUPS;
        let mut group = self.groups[index].lock().unwrap_or_else(PoisonError::into_inner);
        let known = group.iter().position(|it| it.is_some_and(|it| it.address == address));
        let slot = known.unwrap_or_else(|| {
            let tokens =
                |it: &Option<Bucket>| it.map_or(f64::MAX, |it| it.tokens_at(now, self.rate));
            let quietest =
                (0..GROUP).max_by(|a, b| tokens(&group[*a]).total_cmp(&tokens(&group[*b])));
            quietest.unwrap_or_default()
        });
        let known = known.and_then(|slot| group[slot]);
        let tokens = known.map_or(self.rate, |bucket| bucket.tokens_at(now, self.rate));
        let left = if tokens >= 1.0 { tokens - 1.0 } else { tokens };
        group[slot] = Some(Bucket { address, tokens: left, filled: now });
        match tokens >= 1.0 {
            true => Ok(()),
            false => Err(Duration::from_secs_f64((1.0 - tokens) / self.rate)),
        }
    }
}

/// An address of IPv4, or the first half of one of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_bucket_is_filled_by_time() {
        let limit = RateLimit::new(2);
        let (start, one) = (Instant::now(), address("192.0.2.1"));
        let at = |milliseconds| limit.take(one, start + Duration::from_millis(milliseconds));
        assert_eq!([at(0), at(0)], [Ok(()), Ok(())]);
        assert_eq!(at(0), Err(Duration::from_millis(500)));
        assert_eq!(at(250), Err(Duration::from_millis(250)));
        assert_eq!([at(500), at(1_000)], [Ok(()), Ok(())]);
        assert_eq!([at(60_000), at(60_000)], [Ok(()), Ok(())]); // no more than two are saved up
        assert!(at(60_000).is_err());
    }

    #[test]
    fn each_address_counts_alone_and_a_network_of_ipv6_is_one() {
        let limit = RateLimit::new(1);
        let now = Instant::now();
        let take = |text| limit.take(address(text), now).is_ok();
        assert!(take("192.0.2.1") && take("192.0.2.2"));
        assert!(!take("192.0.2.1") && !take("::ffff:192.0.2.2"));
        assert!(take("2001:db8::1") && !take("2001:db8::2") && take("2001:db8:0:1::1"));
    }

    #[test]
    fn whoever_has_been_quiet_is_forgotten_first() {
        let limit = RateLimit::new(3);
        let now = Instant::now();
        let busy = address("192.0.2.1");
        while limit.take(busy, now).is_ok() {}
        for number in 0..50_000_u32 {
            assert!(limit.take(IpAddr::from(number.to_be_bytes()), now).is_ok());
        }
        assert!(limit.take(busy, now).is_err());
    }
}

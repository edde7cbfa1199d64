//! How often an address may ask: each has a bucket of tokens, a request takes one, and time puts new ones in.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How many addresses are remembered.
const MAX_BUCKETS: usize = 10_000;

pub struct RateLimit {
    /// Tokens for a second, and the most that a bucket holds.
    rate: f64,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimit {
    pub fn new(rate: u32) -> RateLimit {
        RateLimit { rate: rate.into(), buckets: Mutex::default() }
    }

    /// Takes a token of this address, or says how long it has to wait for one.
    pub fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_BUCKETS && !buckets.contains_key(&address) {
            // A full bucket is as good as a new one.
            buckets.retain(|_, bucket| bucket.filled_until(now, self.rate) < self.rate);
        }
        if buckets.len() >= MAX_BUCKETS {
            buckets.clear(); // an attack: better that some go on than that memory runs out
        }
        let bucket = buckets.entry(address).or_insert(Bucket { tokens: self.rate, filled: now });
        bucket.tokens = bucket.filled_until(now, self.rate);
        bucket.filled = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.rate))
    }
}

impl Bucket {
    fn filled_until(&self, now: Instant, rate: f64) -> f64 {
        let elapsed = now.saturating_duration_since(self.filled);
        (self.tokens + elapsed.as_secs_f64() * rate).min(rate)
    }
}

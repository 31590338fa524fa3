//! What each peer may ask for. It is kept by name and not by session, until it is whole again: coming
//! anew gives nobody more.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Keying;
use super::schedule::Bucket;
use crate::types::NveName;

/// SAs that a peer may ask for each second, for each exchange that it may begin.
const WANTS: u32 = 16;
/// So many are kept, beside those of peers, before those that are whole are forgotten.
const IDLE: usize = 1024;
/// They are looked at no oftener.
const TIDY: Duration = Duration::from_secs(1);

/// Of one peer.
#[derive(Debug)]
pub struct Allowance {
    /// Exchanges it may begin.
    pub requests: Bucket,
    /// SAs it may ask for.
    pub wants: Bucket,
}

impl Allowance {
    fn new((rate, burst): (u32, u32)) -> Self {
        Self {
            requests: Bucket::with_burst(rate, burst),
            wants: Bucket::with_burst(rate.saturating_mul(WANTS), burst.saturating_mul(WANTS)),
        }
    }

    pub fn resize(&mut self, rate: u32, burst: u32) {
        self.requests.resize(rate, burst);
        self.wants
            .resize(rate.saturating_mul(WANTS), burst.saturating_mul(WANTS));
    }

    fn is_whole(&self, now: Duration) -> bool {
        self.requests.is_full(now) && self.wants.is_full(now)
    }
}

/// Of all peers that asked for something of late.
#[derive(Debug, Default)]
pub struct Allowances {
    of: BTreeMap<NveName, Allowance>,
    tidied: Duration,
}

impl Allowances {
    pub fn get_mut(&mut self, name: &NveName) -> Option<&mut Allowance> {
        self.of.get_mut(name)
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.of.len()
    }
}

impl Keying {
    /// What a peer may ask for.
    pub(super) fn allowance(&mut self, now: Duration, name: &NveName) -> &mut Allowance {
        let rate = self.rate(name);
        let Allowances { of, tidied } = &mut self.allowances;
        if of.len() > 2 * self.peers.len() + IDLE && now >= *tidied + TIDY {
            // What is whole says nothing that a new one would not.
            of.retain(|_, allowance| !allowance.is_whole(now));
            *tidied = now;
        }
        let new = || Allowance::new(rate);
        of.entry(name.clone()).or_insert_with(new)
    }
}

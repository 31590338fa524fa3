//! Which server, when to try the next, and how long the lease lasts.

use core::time::Duration;
use std::collections::VecDeque;

/// Before the first try after a loss; doubles with each round of all servers.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Longest wait, but for those that will not be let in soon.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Wait after a refusal that does not pass by itself.
const PATIENT_WAIT: Duration = Duration::from_secs(60);
/// A session that is not open, or does not answer, after so long is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// Leases are renewed when a fourth of them has passed, but at these intervals at the shortest and
/// longest.
const SHORTEST_RENEWAL: Duration = Duration::from_millis(250);
const LONGEST_RENEWAL: Duration = Duration::from_secs(60);

enum State {
    /// No session; a try is due.
    Idle { until: Duration },
    /// Being opened.
    Dialling { since: Duration },
    /// Open; `Hello` was sent.
    Greeting { since: Duration },
    /// Welcome.
    Welcome,
}

pub(super) struct Link {
    state: State,
    servers: usize,
    /// The one in use, or tried next.
    server: usize,
    /// Tries since the last session that was welcome.
    attempts: u32,
    patient: bool,
    identity: String,
    binding: Vec<u8>,
    /// Renewals sent and not answered: number and time.
    renewals: VecDeque<(u64, Duration)>,
    next_sequence: u64,
    next_renewal: Duration,
    lease: Duration,
    lease_end: Duration,
}

impl Link {
    pub(super) fn new(servers: usize, now: Duration, rng: &mut fastrand::Rng) -> Self {
        Self {
            // Edges that start together do not come together.
            state: State::Idle {
                until: now + fraction(FIRST_WAIT, rng),
            },
            servers: servers.max(1),
            server: rng.usize(..servers.max(1)),
            attempts: 0,
            patient: false,
            identity: String::new(),
            binding: Vec::new(),
            renewals: VecDeque::new(),
            next_sequence: 0,
            next_renewal: now,
            lease: Duration::ZERO,
            lease_end: now,
        }
    }

    /// The server to be dialled now.
    pub(super) fn dial(&mut self, now: Duration) -> Option<usize> {
        let State::Idle { until } = self.state else {
            return None;
        };
        if now < until {
            return None;
        }
        self.attempts = self.attempts.saturating_add(1);
        self.state = State::Dialling { since: now };
        Some(self.server)
    }

    pub(super) fn connected(&mut self, now: Duration, identity: &str, binding: &[u8]) {
        self.state = State::Greeting { since: now };
        self.identity = identity.to_owned();
        self.binding = binding.to_vec();
        self.renewals.clear();
    }

    /// The lease counts from when `Hello` was sent. False if there was a welcome already.
    pub(super) fn welcome(&mut self, now: Duration, lease: u32) -> bool {
        let State::Greeting { since } = self.state else {
            return false;
        };
        self.state = State::Welcome;
        self.attempts = 0;
        self.patient = false;
        self.take_lease(since, lease);
        self.next_renewal = now + self.renewal_interval();
        true
    }

    fn take_lease(&mut self, from: Duration, lease: u32) {
        self.lease = Duration::from_secs(lease.into());
        self.lease_end = self.lease_end.max(from + self.lease);
    }

    fn renewal_interval(&self) -> Duration {
        (self.lease / 4).clamp(SHORTEST_RENEWAL, LONGEST_RENEWAL)
    }

    /// The next renewal is sent now.
    pub(super) fn renew_now(&mut self, now: Duration) {
        self.next_renewal = now;
    }

    /// The number of a renewal to be sent now.
    pub(super) fn renew(&mut self, now: Duration) -> Option<u64> {
        if !self.is_welcome() || now < self.next_renewal {
            return None;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        self.renewals.push_back((sequence, now));
        self.next_renewal = now + self.renewal_interval();
        Some(sequence)
    }

    /// The number of the renewal that is sent next.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Whether this answers a renewal of this session.
    pub(super) fn renewed(&mut self, _now: Duration, sequence: u64, lease: u32) -> bool {
        let Some(at) = self.renewals.iter().position(|(n, _)| *n == sequence) else {
            return false;
        };
        let Some((_, sent)) = self.renewals.drain(..=at).next_back() else {
            return false;
        };
        self.take_lease(sent, lease);
        true
    }

    /// Whether the other end has been silent for too long.
    pub(super) fn is_stuck(&self, now: Duration) -> bool {
        self.silent_since()
            .is_some_and(|since| now >= since + PATIENCE)
    }

    fn silent_since(&self) -> Option<Duration> {
        match self.state {
            State::Idle { .. } => None,
            State::Dialling { since } | State::Greeting { since } => Some(since),
            State::Welcome => self.renewals.front().map(|(_, sent)| *sent),
        }
    }

    pub(super) fn disconnected(&mut self, now: Duration, rng: &mut fastrand::Rng) {
        if matches!(self.state, State::Idle { .. }) {
            return;
        }
        self.server = (self.server + 1) % self.servers;
        let rounds = self.attempts / u32::try_from(self.servers).unwrap_or(u32::MAX);
        let wait = match self.patient {
            true => PATIENT_WAIT,
            false => FIRST_WAIT
                .saturating_mul(1_u32.checked_shl(rounds.min(16)).unwrap_or(u32::MAX))
                .min(LONGEST_WAIT),
        };
        // Half of it fixed, so that a server that comes back is not met by all at once, nor soon
        // again by one.
        self.state = State::Idle {
            until: now + wait / 2 + fraction(wait / 2, rng),
        };
        self.identity.clear();
        self.binding.clear();
        self.renewals.clear();
    }

    /// Tries are a long time apart until one is welcome.
    pub(super) fn be_patient(&mut self) {
        self.patient = true;
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.state, State::Greeting { .. } | State::Welcome)
    }

    pub(super) fn is_welcome(&self) -> bool {
        matches!(self.state, State::Welcome)
    }

    /// Identity and binding of the session.
    pub(super) fn peer(&self) -> (&str, &[u8]) {
        (&self.identity, &self.binding)
    }

    pub(super) fn server(&self) -> Option<usize> {
        (!matches!(self.state, State::Idle { .. })).then_some(self.server)
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    pub(super) fn lease_end(&self) -> Duration {
        self.lease_end
    }

    pub(super) fn lease_left(&self, now: Duration) -> Option<u64> {
        let left = self.lease_end.checked_sub(now)?;
        (left > Duration::ZERO).then_some(left.as_secs())
    }

    pub(super) fn deadline(&self) -> Option<Duration> {
        let silent = self.silent_since().map(|since| since + PATIENCE);
        let next = match self.state {
            State::Idle { until } => Some(until),
            State::Welcome => Some(self.next_renewal),
            State::Dialling { .. } | State::Greeting { .. } => None,
        };
        silent.into_iter().chain(next).min()
    }
}

/// Anything from nothing to `of`.
pub(super) fn fraction(of: Duration, rng: &mut fastrand::Rng) -> Duration {
    of.mul_f64(rng.f64())
}

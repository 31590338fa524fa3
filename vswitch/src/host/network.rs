//! The task that keeps the paths to every wanted destination up to date.
//!
//! On any announcement of the kernel it asks again about every destination: no copy of the
//! kernel's tables has to be kept right. Announcements are gathered for a few milliseconds, and
//! a long round is followed by a pause in proportion, so that a routing daemon in turmoil does
//! not keep a core busy.
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

use super::error::HostError;
use super::monitor::Monitor;
use super::netlink::Kernel;
use super::resolve::{self, Neighbour, Resolution};
use super::types::{Path, PathUpdate, UnderlayPort};

/// How long announcements are gathered before the next round.
const GATHER: Duration = Duration::from_millis(5);
/// Pause after a round, in multiples of its duration, and at most.
const PAUSE_FACTOR: u32 = 4;
const PAUSE_LIMIT: Duration = Duration::from_millis(500);
/// Stale neighbours are confirmed, and everything asked again, this often.
const REFRESH: Duration = Duration::from_secs(20);
/// First and longest time between two attempts at a neighbour that does not answer. (One
/// attempt is the kernel's series of probes, about three seconds.)
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(8);
/// How long the old paths stay in use while the neighbours of a new route are being asked for.
const HOLD: Duration = Duration::from_secs(1);
/// Updates under way to the receiver; a slower one makes rounds wait.
const CHANNEL: usize = 64;

/// The destinations to find paths for. When the last clone is dropped, [`HostNetwork::run`]
/// ends.
#[derive(Debug, Clone)]
pub struct Destinations(watch::Sender<Wanted>);

/// What paths are wanted to, and through which ports.
#[derive(Debug, Clone)]
struct Wanted {
    destinations: BTreeSet<IpAddr>,
    ports: Arc<[UnderlayPort]>,
}

impl Destinations {
    /// Wants exactly these.
    pub fn set(&self, destinations: BTreeSet<IpAddr>) {
        self.0.send_if_modified(|wanted| {
            let changed = wanted.destinations != destinations;
            wanted.destinations = destinations;
            changed
        });
    }

    /// The ports have other static neighbours and routes from now on. Their taps stay.
    pub fn set_ports(&self, ports: Vec<UnderlayPort>) {
        self.0.send_if_modified(|wanted| {
            let changed = *wanted.ports != *ports;
            wanted.ports = ports.into();
            changed
        });
    }

    /// Wants one more.
    pub fn add(&self, destination: IpAddr) {
        self.0
            .send_if_modified(|wanted| wanted.destinations.insert(destination));
    }

    /// No longer wants this one. No update follows.
    pub fn remove(&self, destination: IpAddr) {
        self.0
            .send_if_modified(|wanted| wanted.destinations.remove(&destination));
    }
}

/// What was last said about a destination.
#[derive(Debug)]
struct Known {
    paths: Vec<Path>,
    /// Since when `paths` are kept although they are no longer what the route says.
    held_since: Option<Instant>,
}

/// When to bother the kernel about a neighbour again.
#[derive(Debug)]
struct Attempt {
    due: Instant,
    /// Wait after the next failure; `None` while the neighbour is usable.
    backoff: Option<Duration>,
}

/// The kernel's side of the underlay; see [`HostNetwork::run`].
pub struct HostNetwork {
    ports: Arc<[UnderlayPort]>,
    /// `None` where no port has a tap: then the kernel is not asked at all.
    kernel: Option<(Kernel, Monitor)>,
    wanted: watch::Receiver<Wanted>,
    updates: mpsc::Sender<PathUpdate>,
    known: HashMap<IpAddr, Known>,
    attempts: HashMap<(u32, IpAddr), Attempt>,
}

/// The receiver of the updates is gone.
struct ReceiverGone;

impl HostNetwork {
    /// Connects to the kernel of the calling thread's network namespace, on the running tokio
    /// runtime. Nothing happens before [`HostNetwork::run`].
    pub fn open(
        ports: Vec<UnderlayPort>,
    ) -> Result<(Self, Destinations, mpsc::Receiver<PathUpdate>), HostError> {
        let kernel = match ports.iter().any(|port| port.tap.is_some()) {
            true => Some((Kernel::connect()?, Monitor::open()?)),
            false => None,
        };
        let ports: Arc<[UnderlayPort]> = ports.into();
        let (destinations, wanted) = watch::channel(Wanted {
            destinations: BTreeSet::new(),
            ports: Arc::clone(&ports),
        });
        let (updates, receiver) = mpsc::channel(CHANNEL);
        let network = Self {
            ports,
            kernel,
            wanted,
            updates,
            known: HashMap::new(),
            attempts: HashMap::new(),
        };
        Ok((network, Destinations(destinations), receiver))
    }

    /// Sends a [`PathUpdate`] for every destination when it is first wanted, and from then on
    /// whenever its paths change. Ends when the [`Destinations`] or the receiver are dropped.
    pub async fn run(mut self) -> Result<(), HostError> {
        let mut links = Vec::new();
        loop {
            let began = Instant::now();
            let wake = match self.round(&mut links).await {
                Ok(Ok(wake)) => wake,
                Ok(Err(ReceiverGone)) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    return Err(HostError::Socket(error));
                }
                Err(error) => {
                    // What was said before stays; the next round asks again.
                    warn!(%error, "the kernel did not answer about the underlay");
                    Instant::now() + RETRY_FIRST
                }
            };
            let pause = (began.elapsed() * PAUSE_FACTOR).min(PAUSE_LIMIT);
            let calm = Instant::now() + pause;
            let updates = self.updates.clone();
            tokio::select! {
                wanted = self.wanted.changed() => {
                    if wanted.is_err() {
                        return Ok(());
                    }
                }
                () = updates.closed() => return Ok(()),
                () = sleep_until(wake) => {}
                heard = heard(self.kernel.as_ref(), &links) => {
                    heard.map_err(HostError::Socket)?;
                    sleep_until(calm.max(Instant::now() + GATHER)).await;
                }
            }
            if let Some((_, monitor)) = &self.kernel {
                // Before the round: what is announced during it causes another.
                monitor.drain();
            }
        }
    }

    /// Asks about every wanted destination and says what changed. Returns when to look again
    /// without being told.
    async fn round(&mut self, links: &mut Vec<u32>) -> io::Result<Result<Instant, ReceiverGone>> {
        let Wanted {
            destinations: wanted,
            ports,
        } = self.wanted.borrow_and_update().clone();
        self.ports = ports;
        self.known
            .retain(|destination, _| wanted.contains(destination));
        let now = Instant::now();
        let mut wake = now + REFRESH;

        let ports = &self.ports;
        let mut taps: HashMap<u32, &UnderlayPort> = HashMap::new();
        let mut neighbours = HashMap::new();
        if let Some((kernel, _)) = &self.kernel {
            for port in ports.iter() {
                let Some(name) = &port.tap else { continue };
                if let Some(link) = kernel.link(name).await? {
                    taps.insert(link.index, port);
                }
            }
            links.clear();
            links.extend(taps.keys());
            if !wanted.is_empty() {
                for link in taps.keys() {
                    neighbours.insert(*link, kernel.neighbours(*link).await?);
                }
            }
        }

        let mut next_hops = BTreeSet::new();
        for destination in wanted {
            let route = match &self.kernel {
                Some((kernel, _)) => match kernel.route(destination).await {
                    Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                        // What was said before stays; the others must not suffer.
                        warn!(%destination, %error, "the kernel did not answer about a route");
                        wake = wake.min(now + RETRY_FIRST);
                        continue;
                    }
                    answer => answer?,
                },
                None => None,
            };
            let from_kernel = route.map(|route| {
                let found = resolve::kernel_paths(&route, destination, &taps, &neighbours);
                (route.prefix, found)
            });
            let found = choose(from_kernel, resolve::static_paths(ports, destination));
            next_hops.extend(found.next_hops);

            let known = self.known.get_mut(&destination);
            if let Some(known) = known {
                if found.paths.is_empty() && found.pending && !known.paths.is_empty() {
                    let until = *known.held_since.get_or_insert(now) + HOLD;
                    if now < until {
                        wake = wake.min(until);
                        continue;
                    }
                }
                known.held_since = None;
                if known.paths == found.paths {
                    continue;
                }
            }
            debug!(%destination, paths = found.paths.len(), "paths changed");
            let update = PathUpdate {
                destination,
                paths: found.paths.clone(),
            };
            if self.updates.send(update).await.is_err() {
                return Ok(Err(ReceiverGone));
            }
            let paths = found.paths;
            let held_since = None;
            self.known.insert(destination, Known { paths, held_since });
        }

        self.attempts.retain(|next, _| next_hops.contains(next));
        if let Some((kernel, _)) = &self.kernel {
            for (link, address) in next_hops {
                let state = neighbours.get(&link).and_then(|table| table.get(&address));
                let attempt = self.attempts.entry((link, address)).or_insert(Attempt {
                    due: now,
                    backoff: None,
                });
                if attempt.is_due(state.copied(), now)
                    && let Err(error) = kernel.use_neighbour(link, address).await
                {
                    debug!(link, %address, %error, "cannot ask for a neighbour");
                }
                wake = wake.min(attempt.due.max(now + RETRY_FIRST));
            }
        }
        Ok(Ok(wake))
    }
}

/// Waits for an announcement, for ever where the kernel is not asked.
async fn heard(kernel: Option<&(Kernel, Monitor)>, links: &[u32]) -> io::Result<()> {
    match kernel {
        Some((_, monitor)) => monitor.changed(links).await,
        None => std::future::pending().await,
    }
}

impl Attempt {
    /// Whether to have the kernel ask (again) now; sets the time of the next attempt.
    fn is_due(&mut self, state: Option<Neighbour>, now: Instant) -> bool {
        match state {
            Some(Neighbour::Usable { stale, .. }) => {
                if self.backoff.take().is_some() {
                    self.due = now;
                }
                let reached = now >= self.due;
                if reached {
                    self.due = now + REFRESH;
                }
                stale && reached
            }
            Some(Neighbour::Resolving | Neighbour::Failed) | None => {
                let wait = *self.backoff.get_or_insert_with(|| {
                    // A change for the worse does not wait for the refresh to come.
                    self.due = now;
                    RETRY_FIRST
                });
                let due = now >= self.due;
                if due {
                    self.due = now + wait;
                    self.backoff = Some((wait * 2).min(RETRY_LONGEST));
                }
                due
            }
        }
    }
}

/// The longer prefix wins; the kernel's route where they are equal. A kernel route that leads
/// to other interfaces only is none of ours.
fn choose(kernel: Option<(u8, Resolution)>, fixed: Option<(u8, Vec<Path>)>) -> Resolution {
    let kernel = kernel.filter(|(_, found)| !found.next_hops.is_empty());
    match (kernel, fixed) {
        (Some((ours, found)), Some((theirs, _))) if ours >= theirs => found,
        (_, Some((_, paths))) => Resolution {
            paths,
            ..Resolution::default()
        },
        (Some((_, found)), None) => found,
        (None, None) => Resolution::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn an_unanswered_neighbour_is_asked_for_with_growing_pauses() {
        let start = Instant::now();
        let mut attempt = Attempt {
            due: start,
            backoff: None,
        };
        let asked: Vec<u64> = (0..40)
            .filter(|s| {
                let now = start + Duration::from_secs(*s);
                attempt.is_due(Some(Neighbour::Failed), now)
            })
            .collect();
        assert_eq!(asked, [0, 1, 3, 7, 15, 23, 31, 39]);
    }

    #[test]
    fn a_stale_neighbour_is_confirmed_every_refresh_and_a_lost_one_at_once() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let usable = |stale| Some(Neighbour::Usable { mac: MAC, stale });
        let mut attempt = Attempt {
            due: start,
            backoff: None,
        };
        assert!(!attempt.is_due(usable(false), at(0)));
        assert!(!attempt.is_due(usable(true), at(10)));
        assert!(attempt.is_due(usable(true), at(20)));
        assert!(!attempt.is_due(usable(true), at(39)));
        assert!(attempt.is_due(None, at(39)));
        assert!(!attempt.is_due(Some(Neighbour::Resolving), at(39)));
    }

    #[test]
    fn the_longer_prefix_wins() {
        let path = |port| Path {
            port,
            source_hint: None,
            src_mac: MAC,
            dst_mac: MAC,
        };
        let kernel = |prefix| {
            let found = Resolution {
                paths: vec![path(0)],
                pending: false,
                next_hops: vec![(1, IpAddr::from([192, 0, 2, 1]))],
            };
            Some((prefix, found))
        };
        let fixed = Some((24, vec![path(1)]));
        assert_eq!(choose(kernel(0), fixed.clone()).paths, [path(1)]);
        assert_eq!(choose(kernel(24), fixed.clone()).paths, [path(0)]);
        assert_eq!(choose(kernel(0), None).paths, [path(0)]);
        let elsewhere = Some((32, Resolution::default()));
        assert_eq!(choose(elsewhere, fixed).paths, [path(1)]);
    }
}

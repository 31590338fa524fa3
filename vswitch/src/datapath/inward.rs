//! What nearly every ESP packet is on its way out of a tunnel: in one buffer, of an SA of this
//! worker's, and nobody watches. Packets of one SA that follow one another are a run: what the SA,
//! its tunnel and its peer decide is looked up once. Chains of buffers, and all packets while
//! somebody watches, go the thorough way ([`super::chains`]), which decides the same.

use std::net::IpAddr;

use arrayvec::ArrayVec;
use vswitch_aead::Job;
use vswitch_net::esp;
use vswitch_net::quick::QuickOuter;
use vswitch_sa::{Authenticated, Candidate};

use super::decap::{Expected, Sealed, open_verdict};
use super::inner::Inners;
use super::probe::{Probe, Stage};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Mbuf};

const _: () = assert!(BURST <= 32, "a bit of each packet of a burst");

/// Outer headers and SPI of a usual packet.
const HEAD: usize = QuickOuter::PAYLOAD + 4;
const _: () = assert!(HEAD <= QuickOuter::PAYLOAD + esp::HEADER_LEN);

/// A usual packet that was looked at: what has the same length and begins with the same octets is
/// of the same SA, and as good.
struct Known {
    head: [u8; HEAD],
    len: usize,
}

impl Known {
    /// From a packet that was found to be usual.
    #[inline]
    fn of(packet: &Mbuf) -> Option<Self> {
        Some(Known {
            head: *packet.head().first_chunk()?,
            len: packet.len(),
        })
    }

    /// Whether this one is alike.
    #[inline(always)]
    fn is_like(&self, packet: &Mbuf) -> bool {
        let Some(head) = packet.head().first_chunk() else {
            return false;
        };
        packet.is_contiguous()
            && !packet.has_stripped_vlan()
            && packet.len() == self.len
            && differing(head, &self.head) == 0
    }
}

/// Bits in which two heads differ, some of them twice: three comparisons without a branch.
#[inline(always)]
fn differing(a: &[u8; HEAD], b: &[u8; HEAD]) -> u128 {
    const PARTS: [usize; 3] = [0, 16, HEAD - 16];
    let part = |of: &[u8; HEAD], at: usize| {
        let part = of.get(at..).and_then(|of| of.first_chunk());
        u128::from_ne_bytes(part.copied().unwrap_or_default())
    };
    PARTS
        .iter()
        .fold(0, |bits, at| bits | part(a, *at) ^ part(b, *at))
}

const _: () = assert!(HEAD > 32 && HEAD <= 48);

/// Packets of one SA from one address, one behind the other.
struct Run {
    slot: usize,
    /// Where ESP begins. It ends with the packet.
    start: usize,
    src: IpAddr,
    packets: usize,
}

/// The ESP packets of a burst whose SAs are this worker's.
#[derive(Default)]
pub(super) struct Arrivals {
    runs: ArrayVec<Run, BURST>,
    packets: ArrayVec<Mbuf, BURST>,
    chained: bool,
    /// The last of them, if it was usual.
    known: Option<Known>,
}

impl Arrivals {
    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// One more that was found to be usual: what is like it is of its SA. ESP ends at `end`.
    #[inline]
    pub fn push_usual(&mut self, mut packet: Mbuf, slot: usize, end: usize, src: IpAddr) {
        // With padding of Ethernet behind it, one is looked at like any other.
        let whole = end == packet.len() && packet.is_contiguous();
        let known = if whole { Known::of(&packet) } else { None };
        packet.truncate(end);
        self.push(packet, slot, QuickOuter::PAYLOAD, src);
        self.known = known;
    }

    /// One more, of which ESP begins at `start` and ends with the packet.
    #[inline]
    pub fn push(&mut self, packet: Mbuf, slot: usize, start: usize, src: IpAddr) {
        self.known = None;
        self.chained |= !packet.is_contiguous();
        self.packets.push(packet);
        match self.runs.last_mut() {
            Some(run) if (run.slot, run.start, run.src) == (slot, start, src) => run.packets += 1,
            _ => self.runs.push(Run {
                slot,
                start,
                src,
                packets: 1,
            }),
        }
    }

    /// One more, if it is like the last one; else it comes back.
    #[inline(always)]
    pub fn push_like(&mut self, packet: Mbuf) -> Option<Mbuf> {
        match (&self.known, self.runs.last_mut()) {
            (Some(known), Some(run)) if known.is_like(&packet) => {
                run.packets += 1;
                self.packets.push(packet);
                None
            }
            _ => Some(packet),
        }
    }

    /// The packets one by one.
    fn drain(&mut self) -> impl Iterator<Item = Sealed> {
        let mut packets = self.packets.drain(..);
        self.runs.drain(..).flat_map(move |run| {
            let mine: ArrayVec<Mbuf, BURST> = packets.by_ref().take(run.packets).collect();
            mine.into_iter().map(move |packet| Sealed {
                packet,
                slot: run.slot,
                start: run.start,
                src: run.src,
            })
        })
    }
}

/// What came of the packets of a burst before their tunnel is looked at.
#[derive(Default)]
struct Judged {
    /// Which packets had a job.
    made: u32,
    /// Of those that had, in order.
    authentic: ArrayVec<Option<Authenticated>, BURST>,
    /// Why the others had none, in order.
    refused: ArrayVec<Verdict, BURST>,
}

impl<P: Probe> Worker<P> {
    /// Opens ESP packets as one batch and forwards what they carried.
    pub(super) fn open(&mut self, port: u16, arrivals: &mut Arrivals) {
        self.counters.probe.enter();
        let n = arrivals.packets.len();
        let mut inners = Inners::default();
        if P::OBSERVES || P::DRY || arrivals.chained {
            self.open_thoroughly(port, arrivals.drain(), &mut inners);
        } else {
            self.open_runs(port, arrivals, &mut inners);
        }
        self.inner_input(&mut inners);
        self.counters.probe.leave(Stage::Decapsulate, n);
    }

    // Functions of their own: together they need more registers than there are.
    #[inline(never)]
    fn open_runs(&mut self, port: u16, arrivals: &mut Arrivals, inners: &mut Inners) {
        let n = arrivals.packets.len();
        if !self.sas.are_many() {
            for run in &arrivals.runs {
                self.acquaint(run.slot, run.src);
            }
        }
        let mut judged = Judged::default();
        self.judge(arrivals, &mut judged);
        self.counters.probe.leave(Stage::Open, n);
        let mut failed: ArrayVec<(Mbuf, usize, Verdict), BURST> = ArrayVec::new();
        let mut refused = judged.refused.iter();
        let mut authentic = judged.authentic.drain(..);
        let (mut packets, mut bit) = (arrivals.packets.drain(..), 1_u32);
        for run in arrivals.runs.drain(..) {
            let mut inside = self.sas.inbound_mut(run.slot).and_then(|slot| {
                let expected = match &slot.known {
                    Some(known) if known.holds(&self.tables, run.src) => known.expected,
                    _ => Expected::of(&self.tables, slot.tunnel)?,
                };
                Some((slot, expected))
            });
            for mut packet in packets.by_ref().take(run.packets) {
                let result = match (judged.made & bit != 0, &mut inside) {
                    (false, _) => Err(refused.next().copied().unwrap_or(Verdict::AuthFailed)),
                    (true, inside) => match (authentic.next().flatten(), inside) {
                        (None, _) => Err(Verdict::AuthFailed),
                        (Some(_), None) => Err(Verdict::NoVn),
                        (Some(authentic), Some((slot, expected))) => {
                            expected.accept(&mut slot.sa, authentic, &mut packet, run.start)
                        }
                    },
                };
                bit = bit.wrapping_shl(1);
                match (result, &inside) {
                    (Ok(()), Some((_, expected))) => {
                        inners.push(packet, expected.tunnel, expected.vn);
                    }
                    (Ok(()), None) => failed.push((packet, run.slot, Verdict::NoVn)),
                    (Err(verdict), _) => failed.push((packet, run.slot, verdict)),
                }
            }
            if let Some((slot, _)) = inside {
                slot.keep_floor();
            }
        }
        drop(packets);
        for (packet, slot, verdict) in failed {
            self.sa_drop(port, slot, verdict, packet);
        }
    }

    /// Checks what can be checked without the key, and deciphers.
    #[inline(never)]
    fn judge(&self, arrivals: &mut Arrivals, judged: &mut Judged) {
        let mut jobs: ArrayVec<Job<'_>, BURST> = ArrayVec::new();
        let mut candidates: ArrayVec<Candidate, BURST> = ArrayVec::new();
        let mut bit = 1_u32;
        let mut left = arrivals.packets.as_mut_slice();
        for run in &arrivals.runs {
            let (packets, rest) = left.split_at_mut(run.packets.min(left.len()));
            left = rest;
            let sa = self.sa_of_its_peer(run.slot, run.src).map(|slot| &slot.sa);
            for packet in packets {
                let esp = packet.head_mut().get_mut(run.start..);
                let result = match (sa, esp) {
                    (Ok(sa), Some(esp)) => sa
                        .check_and_open(esp, |job| jobs.push(job))
                        .map_err(open_verdict),
                    (Err(verdict), _) => Err(verdict),
                    (_, None) => Err(Verdict::EspTruncated),
                };
                match result {
                    Ok((candidate, ())) => {
                        candidates.push(candidate);
                        judged.made |= bit;
                    }
                    Err(verdict) => judged.refused.push(verdict),
                }
                bit = bit.wrapping_shl(1);
            }
        }
        self.backend.open(&mut jobs);
        for (candidate, job) in candidates.drain(..).zip(&jobs) {
            judged.authentic.push(candidate.verdict(job).ok());
        }
    }
}

//! The generator: a tenant that sends and the underlay that receives, on one thread, so that
//! both ends of a packet's way are read from one clock.
//!
//! What arrives is enciphered, and known by its sequence number in ESP (RFC 4303, section 2.2):
//! the worker counts what it seals, in the order in which packets came. Before and after each
//! turn a single packet is sent, whose number must be the one expected; so a packet that was
//! lost before it got a number fails the turn, and does not shift the times of others.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vswitch::dpdk::ethdev::{Port, RxQueue, TxQueue};
use vswitch::dpdk::mbuf::{BURST, Burst, free_burst};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::time::{TscClock, tsc};

use crate::datapath::alone::one_queue;
use crate::datapath::frames::TENANT_MAC;
use crate::peers::frames;
use crate::stats::Durations;
use crate::switch::SPI;

const BUFFERS: u32 = 8192;
/// Packets under way at most: rings of both ports and what the worker has in hand are far less.
const STAMPS: usize = 1 << 14;

/// Of outer Ethernet, IPv4 without options and UDP.
const OUTER: usize = 14 + 20 + 8;
/// Source and destination, EtherType, and the protocol of IPv4.
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;

/// With nothing more to come after so long, what is missing is lost: longer than others keep a
/// worker from its CPU.
const QUIET: Duration = Duration::from_millis(200);
/// A switch through which no packet comes for so long does not work.
const PATIENCE: Duration = Duration::from_secs(10);
/// Who is later than this does not catch up: its burst would be measured, not the switch.
const LATE: Duration = Duration::from_micros(100);

/// The underlay between generator and switch, as DPDK's argument; `role` is `server` for one
/// of them and `client` for the other.
pub fn underlay(role: &str, socket: &Path) -> String {
    let socket = socket.display();
    format!("net_memif0,role={role},id=0,socket={socket},socket-abstract=no,rsize=10")
}

/// How many packets are sent.
#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// As many as the tenant's queue takes.
    Full,
    /// So many per second in the mean, at random times.
    Poisson(f64),
}

/// What was found in a turn.
pub struct Turn {
    /// Of sending.
    pub seconds: f64,
    /// Packets that the tenant's queue took.
    pub sent: u64,
    /// Packets that it did not take, for want of room.
    pub refused: u64,
    /// Of those sent, packets that arrived.
    pub received: u64,
    /// Ticks that they took.
    pub delays: Durations,
    /// Ticks between two looks at the underlay: nothing can be told more finely, and what the
    /// generator sleeps through counts as delay.
    pub looks: Durations,
}

/// Both ends of the way.
pub struct Generator {
    clock: TscClock,
    pool: Mempool,
    to_switch: TxQueue,
    from_switch: RxQueue,
    frames: Vec<Vec<u8>>,
    random: fastrand::Rng,
    /// Packets that the tenant's queue ever took.
    sent: u64,
    /// Packets ever received.
    received: u64,
    /// TSC at which a packet was sent, by the packet's number modulo their number.
    stamps: Vec<u64>,
    /// Sequence number of the packet numbered 0, once known.
    first: Option<u32>,
    /// The last that arrived.
    last: u32,
    _ports: [Port; 2],
}

impl Generator {
    /// Connects to a switch's vhost socket and to its memif.
    pub fn new(
        vhost: &Path,
        memif: &Path,
        bytes: usize,
        clock: TscClock,
    ) -> anyhow::Result<Generator> {
        let pool = Mempool::create(&format!("delay-{bytes}"), BUFFERS, 2048, None, false)?;
        let tenant = Port::open(&format!(
            "net_virtio_user0,path={},queues=1,queue_size=1024,mac={TENANT_MAC}",
            vhost.display()
        ))?;
        let mut to = one_queue(&tenant, &pool)?;
        let underlay = Port::open(&underlay("client", memif))?;
        let mut from = one_queue(&underlay, &pool)?;
        Ok(Generator {
            clock,
            pool,
            to_switch: to.tx.pop().context("transmit queue")?,
            from_switch: from.rx.pop().context("receive queue")?,
            frames: frames::from_tenant(bytes, None),
            random: fastrand::Rng::with_seed(0x5eed_0123_4567_89ab),
            sent: 0,
            received: 0,
            stamps: vec![0; STAMPS],
            first: None,
            last: 0,
            _ports: [tenant, underlay],
        })
    }

    /// Sends for a time, and waits for what is under way.
    pub fn turn(&mut self, load: Load, time: Duration) -> anyhow::Result<Turn> {
        self.agree()?;
        let mut turn = Turn {
            seconds: 0.0,
            sent: 0,
            refused: 0,
            received: 0,
            delays: Durations::new()?,
            looks: Durations::new()?,
        };
        let (sent, received) = (self.sent, self.received);
        let late = self.clock.ticks(LATE);
        let start = tsc();
        let end = start + self.clock.ticks(time);
        let (mut due, mut looked, mut out) = (start, start, Burst::new());
        loop {
            let now = tsc();
            turn.looks.record(now.wrapping_sub(looked));
            looked = now;
            self.look(&mut turn.delays)?;
            if now >= end {
                break;
            }
            let wanted = match load {
                Load::Full => BURST,
                Load::Poisson(rate) => {
                    if now.saturating_sub(due) > late {
                        due = now;
                    }
                    let mut wanted = 0;
                    while due <= now && wanted < BURST {
                        wanted += 1;
                        due += self.pause(rate);
                    }
                    wanted
                }
            };
            if wanted > 0 {
                turn.refused += self.send(&mut out, wanted)?;
            }
        }
        turn.seconds = tsc().wrapping_sub(start) as f64 / self.clock.hz() as f64;
        self.settle(&mut turn.delays)?;
        turn.sent = self.sent - sent;
        turn.received = self.received - received;
        ensure!(
            turn.received > 0,
            "nothing arrived of {} packets",
            turn.sent
        );
        self.agree()?;
        Ok(turn)
    }

    /// Ticks until the next packet, of which there are `rate` per second: exponentially
    /// distributed.
    fn pause(&mut self, rate: f64) -> u64 {
        let mean = self.clock.hz() as f64 / rate;
        (-mean * (1.0 - self.random.f64()).ln()) as u64
    }

    /// Sends so many packets and says how many found no room.
    fn send(&mut self, out: &mut Burst, wanted: usize) -> anyhow::Result<u64> {
        ensure!(
            self.pool.alloc_burst(out, wanted) == wanted,
            "the pool is too small"
        );
        for (i, packet) in out.iter_mut().enumerate() {
            let flow = (self.sent as usize + i) % self.frames.len();
            let frame = self.frames.get(flow).context("a frame")?;
            packet.append(frame.len())?.copy_from_slice(frame);
        }
        let now = tsc();
        let sent = self.to_switch.send(out);
        for number in self.sent..self.sent + sent as u64 {
            *self.stamp(number)? = now;
        }
        self.sent += sent as u64;
        let refused = out.len() as u64;
        free_burst(out);
        Ok(refused)
    }

    fn stamp(&mut self, number: u64) -> anyhow::Result<&mut u64> {
        let place = number as usize % STAMPS;
        self.stamps.get_mut(place).context("a place for the time")
    }

    /// Takes what has arrived; says how many.
    fn look(&mut self, delays: &mut Durations) -> anyhow::Result<usize> {
        let mut burst = Burst::new();
        self.from_switch.receive(&mut burst);
        if burst.is_empty() {
            return Ok(0);
        }
        let now = tsc();
        let mut ours = 0;
        for packet in &burst {
            let Some(sequence) = sequence(packet.head()) else {
                continue;
            };
            ours += 1;
            self.last = sequence;
            let Some(first) = self.first else {
                continue;
            };
            let number = u64::from(sequence.wrapping_sub(first));
            ensure!(number < self.sent, "packet {number} of {}", self.sent);
            self.received += 1;
            delays.record(now.wrapping_sub(*self.stamp(number)?));
        }
        free_burst(&mut burst);
        Ok(ours)
    }

    /// Takes what arrives until nothing does any more.
    fn settle(&mut self, delays: &mut Durations) -> anyhow::Result<usize> {
        let (mut arrived, mut heard) = (0, Instant::now());
        let all = |it: &Self| it.first.is_some() && it.received == it.sent;
        while !all(self) && heard.elapsed() < QUIET {
            let more = self.look(delays)?;
            if more > 0 {
                arrived += more;
                heard = Instant::now();
            }
        }
        Ok(arrived)
    }

    /// Sends a packet alone and sees that it has the number that it must have. The first time,
    /// learns which that is, once the switch lets packets through.
    fn agree(&mut self) -> anyhow::Result<()> {
        let (mut aside, mut out) = (Durations::new()?, Burst::new());
        self.settle(&mut aside)?;
        let (before, learns) = (self.sent, self.first.is_none());
        let began = Instant::now();
        loop {
            if learns || self.sent == before {
                self.send(&mut out, 1)?;
            }
            if self.settle(&mut aside)? > 0 {
                break;
            }
            ensure!(
                began.elapsed() < PATIENCE,
                "a packet sent alone does not arrive"
            );
        }
        let number = (self.sent - 1) as u32;
        let first = *self.first.get_or_insert(self.last.wrapping_sub(number));
        let shifted = self.last.wrapping_sub(first).wrapping_sub(number) as i32;
        ensure!(
            shifted == 0,
            "{} packets were lost before they had a number",
            -i64::from(shifted)
        );
        self.received = self.sent;
        Ok(())
    }
}

/// The sequence number of a packet, if it is one of ours.
fn sequence(packet: &[u8]) -> Option<u32> {
    let ours = packet.get(12..14)? == IPV4 && packet.get(23)? == &UDP;
    let word = |at: usize| Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?));
    (ours && word(OUTER)? == SPI).then(|| word(OUTER + 4))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_known_by_their_sequence_number() {
        let mut packet = vec![0; OUTER];
        packet[12..14].copy_from_slice(&IPV4);
        packet[23] = UDP;
        packet.extend(SPI.to_be_bytes());
        packet.extend(7_u32.to_be_bytes());
        assert_eq!(sequence(&packet), Some(7));
        assert_eq!(sequence(&packet[..packet.len() - 1]), None);
        packet[OUTER + 3] ^= 1;
        assert_eq!(sequence(&packet), None);
        packet[OUTER + 3] ^= 1;
        packet[23] = 6;
        assert_eq!(sequence(&packet), None);
    }
}

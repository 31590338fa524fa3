//! How it is measured: all contestants in turn, round by round, over the same buffers.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::time;
use vswitch_aead::Algorithm;

use super::contestants::{self, Contestant};
use super::packets::{Material, Packet, State};
use crate::stats::median;

/// What is done to packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Encipher, and make the tag.
    Seal,
    /// Check the tag, and decipher.
    Open,
}

impl Operation {
    /// Both.
    pub const ALL: [Operation; 2] = [Operation::Seal, Operation::Open];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Operation::Seal => "seal",
            Operation::Open => "open",
        }
    }
}

/// Where packets are before they are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heat {
    /// In the nearest cache they fit into: just written.
    Hot,
    /// In none of the core's own: the buffers are many times as large, and in random order.
    Cold,
}

impl Heat {
    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Heat::Hot => "hot",
            Heat::Cold => "cold",
        }
    }
}

/// One thing to measure, for both operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Case {
    /// The cipher.
    pub algorithm: Algorithm,
    /// Where packets are.
    pub heat: Heat,
    /// Keys, which packets have in random order.
    pub keys: usize,
    /// Packets of a call.
    pub batch: usize,
    /// Bytes that are enciphered, without AAD and tag.
    pub bytes: usize,
}

/// Name of an algorithm for cases.
pub const fn algorithm_name(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Aes128Gcm => "aes-128-gcm",
        Algorithm::Aes256Gcm => "aes-256-gcm",
    }
}

impl Case {
    /// Its name in records.
    pub fn name(&self, operation: Operation) -> String {
        format!(
            "{}/{}/{}/keys-{}/batch-{}",
            operation.name(),
            algorithm_name(self.algorithm),
            self.heat.name(),
            self.keys,
            self.batch
        )
    }
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds of each case and contestant, in one lap.
    pub rounds: usize,
    /// Windows of a round with hot packets.
    pub windows: usize,
    /// Cold packets; as many buffers.
    pub cold: usize,
}

/// How much of a contestant's work a figure is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// All that its user pays.
    All,
    /// A backend's call, its jobs made before.
    Call,
}

/// Ticks per packet by round, of a case's name, bytes, contestant and span.
pub type Found = BTreeMap<(String, usize, &'static str, Span), Vec<f64>>;

/// Packets that are timed together when they are hot: a burst, or a batch if that is more.
const WINDOW: usize = 32;

/// Order of keys and of cold packets: random, and the same in every run.
const SEED: u64 = 0x1234_5678;

/// Measures a case for all contestants and adds what it found.
pub fn measure(
    case: &Case,
    pool: &Mempool,
    effort: Effort,
    found: &mut Found,
) -> anyhow::Result<()> {
    let mut material = Material::new(case.algorithm, case.keys, case.bytes);
    let mut reference = contestants::reference(&material)?;
    material.seal(&mut *reference, pool)?;
    drop(reference);
    let idle = empty_window();
    let mut all = contestants::all(&material, idle)?;
    let count = match case.heat {
        Heat::Hot => WINDOW.max(case.batch),
        Heat::Cold => effort.cold.max(WINDOW.max(case.batch)),
    };
    let mut ground = Ground {
        packets: material.packets(pool, count)?,
        material,
        batch: case.batch,
        window: WINDOW.max(case.batch),
        random: fastrand::Rng::with_seed(SEED),
        order: Vec::new(),
        next: 0,
        idle,
    };
    ground.random.shuffle(&mut ground.packets);
    for contestant in &mut all {
        ground.prove(&mut **contestant)?;
    }
    // One round more, which only warms caches and branch predictors.
    for round in 0..=effort.rounds {
        // Who goes first changes, so that nobody has another's warmth each time.
        all.rotate_left(1);
        for contestant in &mut all {
            let ticks = match case.heat {
                Heat::Hot => ground.hot(&mut **contestant, effort.windows)?,
                Heat::Cold => ground.cold(&mut **contestant)?,
            };
            if round == 0 {
                continue;
            }
            for (operation, ticks) in Operation::ALL.into_iter().zip(ticks) {
                let span = match contestant.own_ticks() {
                    Some(_) => Span::Call,
                    None => Span::All,
                };
                let key = (case.name(operation), case.bytes, contestant.name(), span);
                found.entry(key).or_default().push(ticks);
            }
        }
    }
    Ok(())
}

/// Where contestants meet.
struct Ground {
    material: Material,
    packets: Vec<Packet>,
    batch: usize,
    window: usize,
    random: fastrand::Rng,
    /// Keys in random order, all of them before one comes again.
    order: Vec<usize>,
    next: usize,
    /// Ticks of a window with nothing in it.
    idle: u64,
}

/// Ticks that reading the counter twice takes.
fn empty_window() -> u64 {
    let windows: Vec<f64> = (0..1001)
        .map(|_| {
            let start = time::tsc_in_order();
            time::tsc_in_order().wrapping_sub(start) as f64
        })
        .collect();
    median(&windows).map_or(0, |ticks| ticks as u64)
}

impl Ground {
    /// The keys of the next window.
    fn keys(&mut self) -> Vec<usize> {
        let all = self.material.keys.len();
        let mut keys = Vec::with_capacity(self.window);
        while keys.len() < self.window {
            if self.next >= self.order.len() {
                self.order = (0..all).collect();
                self.random.shuffle(&mut self.order);
                self.next = 0;
            }
            keys.extend(self.order.get(self.next).copied());
            self.next += 1;
        }
        keys
    }

    /// A contestant that gets a packet wrong is not worth timing.
    fn prove(&mut self, by: &mut dyn Contestant) -> anyhow::Result<()> {
        if !by.is_cipher() {
            return Ok(());
        }
        let (before, after) = (State::Plain, State::Sealed);
        for (operation, before, after) in [
            (Operation::Seal, before, after),
            (Operation::Open, after, before),
        ] {
            let keys = self.keys();
            let window = self.packets.get_mut(..keys.len()).context("packets")?;
            for (packet, key) in window.iter_mut().zip(&keys) {
                self.material.fill(packet, *key, before)?;
            }
            let mut done = 0;
            for batch in window.chunks_mut(self.batch.max(1)) {
                done += work(by, operation, batch);
            }
            ensure!(done == keys.len(), "{} fails at {operation:?}", by.name());
            for packet in window {
                let right = self.material.is(packet, after)?;
                ensure!(right, "{} is wrong at {operation:?}", by.name());
            }
        }
        Ok(())
    }

    /// Ticks per packet sealed and opened, in windows of packets that were just written.
    fn hot(&mut self, by: &mut dyn Contestant, windows: usize) -> anyhow::Result<[f64; 2]> {
        let mut ticks = [0; 2];
        let states = [State::Plain, State::Sealed];
        for _ in 0..windows {
            for ((operation, state), ticks) in
                Operation::ALL.into_iter().zip(states).zip(&mut ticks)
            {
                let keys = self.keys();
                let window = self.packets.get_mut(..keys.len()).context("packets")?;
                for (packet, key) in window.iter_mut().zip(&keys) {
                    self.material.fill(packet, *key, state)?;
                }
                *ticks += timed(by, operation, window, self.batch, self.idle)?;
            }
        }
        Ok(ticks.map(|ticks| ticks as f64 / (windows * self.window) as f64))
    }

    /// The same, through all packets before one comes again.
    fn cold(&mut self, by: &mut dyn Contestant) -> anyhow::Result<[f64; 2]> {
        let mut ticks = [0; 2];
        for (operation, ticks) in Operation::ALL.into_iter().zip(&mut ticks) {
            // Who does no work leaves packets as they are, and could not open them; but it
            // does not look.
            for window in self.packets.chunks_mut(self.window) {
                *ticks += timed(by, operation, window, self.batch, self.idle)?;
            }
        }
        Ok(ticks.map(|ticks| ticks as f64 / self.packets.len() as f64))
    }
}

#[inline]
fn work(by: &mut dyn Contestant, operation: Operation, batch: &mut [Packet]) -> usize {
    match operation {
        Operation::Seal => by.seal(batch),
        Operation::Open => by.open(batch),
    }
}

/// Ticks for a window, batch by batch.
fn timed(
    by: &mut dyn Contestant,
    operation: Operation,
    window: &mut [Packet],
    batch: usize,
    idle: u64,
) -> anyhow::Result<u64> {
    let mut done = 0;
    by.own_ticks();
    let start = time::tsc_in_order();
    for batch in window.chunks_mut(batch.max(1)) {
        done += work(by, operation, batch);
    }
    let ticks = time::tsc_in_order().wrapping_sub(start);
    ensure!(done == window.len(), "{} lost packets", by.name());
    Ok(by.own_ticks().unwrap_or(ticks.saturating_sub(idle)))
}

//! The switches that take turns on the same CPUs, all started and all but one stopped.

use std::time::Duration;

use anyhow::ensure;
use tempfile::TempDir;
use vswitch::manage::status::Status;

use super::Side;
use crate::peers::{Cores, frames, io, stop};
use crate::switch::{self, Attachment, Setup, Switch, VID};

/// Switches of all sides together.
pub const SWITCHES: u32 = 4;

/// After a pause, until everything is warm.
const SETTLE: Duration = Duration::from_millis(300);

/// What was done in a turn, all switches and workers of a side together.
#[derive(Debug, Clone, Copy, Default)]
pub struct Work {
    /// By the clock.
    seconds: f64,
    received: u64,
    sent: u64,
    dropped: u64,
    /// From one worker to another.
    handed_over: u64,
    /// That workers had a CPU.
    cpu: Duration,
}

impl Work {
    /// Packets sent per second.
    pub fn rate(&self) -> f64 {
        self.sent as f64 / self.seconds
    }

    /// Packets sent per second of a worker's CPU.
    pub fn by_cpu(&self) -> f64 {
        self.sent as f64 / self.cpu.as_secs_f64()
    }

    /// The share of the time that so many workers had a CPU.
    pub fn on_cpu(&self, workers: f64) -> f64 {
        self.cpu.as_secs_f64() / (self.seconds * workers)
    }

    /// The share that was dropped.
    pub fn lost(&self) -> f64 {
        self.dropped as f64 / (self.received.max(1)) as f64
    }
}

/// All switches, with one size of frames.
pub struct Sides {
    one: Switch,
    /// Beside `one`: the second of two that share nothing.
    second: Switch,
    two: Switch,
    handing: Switch,
    _dir: TempDir,
}

impl Sides {
    /// Starts and stops them all.
    pub fn start(cores: Cores, hugepages: bool, aead: &str, bytes: usize) -> anyhow::Result<Sides> {
        let dir = tempfile::Builder::new().prefix("vsw").tempdir()?;
        let capture = dir.path().join("tenant.pcap");
        frames::write(&capture, &frames::from_tenant(bytes, Some(VID)))?;
        let capture = capture.as_path();
        let start = |name, cores, queues: &[_], senders| -> anyhow::Result<Switch> {
            stop::check()?;
            let switch = switch::start(&Setup {
                dir: dir.path(),
                name,
                cores,
                hugepages,
                aead,
                tenant: Attachment::Captures(queues),
                underlay: &io::sink(0),
                senders,
            })?;
            switch.connected()?;
            switch.pause(true)?;
            Ok(switch)
        };
        let Cores { main, worker } = cores;
        Ok(Sides {
            one: start("one", &[worker], &[capture], &[0])?,
            second: start("second", &[main], &[capture], &[0])?,
            two: start("two", &[main, worker], &[capture, capture], &[0, 1])?,
            handing: start("handing", &[main, worker], &[capture], &[1])?,
            _dir: dir,
        })
    }

    fn of(&self, side: Side) -> Vec<&Switch> {
        match side {
            Side::One => vec![&self.one],
            Side::Two => vec![&self.two],
            Side::Apart => vec![&self.one, &self.second],
            Side::HandedOver => vec![&self.handing],
        }
    }

    /// So many turns of each side after one to warm up, in changing order.
    pub fn measure(
        &mut self,
        rounds: usize,
        time: Duration,
    ) -> anyhow::Result<[Vec<Work>; Side::ALL.len()]> {
        let mut found: [Vec<Work>; Side::ALL.len()] = Default::default();
        for round in 0..=rounds {
            let mut turns: Vec<_> = Side::ALL.into_iter().zip(&mut found).collect();
            turns.rotate_left(round % Side::ALL.len());
            for (side, found) in turns {
                stop::check()?;
                let work = turn(side, &self.of(side), time)?;
                if round > 0 {
                    found.push(work);
                }
            }
        }
        Ok(found)
    }

    /// Ends them in order.
    pub fn stop(self) -> anyhow::Result<()> {
        for switch in [self.one, self.second, self.two, self.handing] {
            switch.pause(false)?;
            switch.stop()?;
        }
        Ok(())
    }
}

/// What its workers had done and how long they had had a CPU: the mean of before and after the
/// report, which is of some moment between.
fn now(switch: &Switch) -> anyhow::Result<(Status, Duration)> {
    let before = switch.cpu_time()?;
    let status = switch.status()?;
    Ok((status, (before + switch.cpu_time()?) / 2))
}

fn turn(side: Side, switches: &[&Switch], time: Duration) -> anyhow::Result<Work> {
    for switch in switches {
        switch.pause(false)?;
    }
    std::thread::sleep(SETTLE);
    let all = || switches.iter().map(|switch| now(switch));
    let before: Vec<_> = all().collect::<anyhow::Result<_>>()?;
    std::thread::sleep(time);
    let after: Vec<_> = all().collect::<anyhow::Result<_>>()?;
    for switch in switches {
        switch.pause(true)?;
    }
    let mut work = Work::default();
    for ((was, cpu_was), (is, cpu_is)) in before.iter().zip(&after) {
        // Each by its own clock: what it shows is of the moment that it says.
        let more = is.nve.uptime_ns.saturating_sub(was.nve.uptime_ns);
        work.seconds += more as f64 / 1e9 / switches.len() as f64;
        work.cpu += cpu_is.saturating_sub(*cpu_was);
        for (was, is) in was.workers.iter().zip(&is.workers) {
            work.received += is.received.saturating_sub(was.received);
            work.sent += is.sent.saturating_sub(was.sent);
            work.dropped += is.dropped.saturating_sub(was.dropped);
            work.handed_over += is.handed_in.saturating_sub(was.handed_in);
        }
        let idle = is.workers.iter().find(|worker| {
            let was = was.workers.iter().find(|was| was.id == worker.id);
            was.is_some_and(|was| {
                was.received + was.handed_in == worker.received + worker.handed_in
            })
        });
        ensure!(idle.is_none(), "a worker had nothing to do: {idle:?}");
    }
    ensure!(work.sent > 0, "nothing was sent: {after:?}");
    ensure!(
        (work.handed_over > 0) == (side == Side::HandedOver),
        "{}: {} packets were handed over",
        side.name(),
        work.handed_over
    );
    ensure!(
        work.dropped == 0 || side == Side::HandedOver,
        "{} packets were dropped: {after:?}",
        work.dropped
    );
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_counted_by_the_clock_and_by_the_cpu() {
        let work = Work {
            seconds: 2.0,
            received: 400,
            sent: 300,
            dropped: 100,
            handed_over: 0,
            cpu: Duration::from_secs(3),
        };
        let found = [work.rate(), work.by_cpu(), work.on_cpu(2.0), work.lost()];
        assert_eq!(found, [150.0, 100.0, 0.75, 0.25]);
    }
}

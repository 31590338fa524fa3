//! Sides that take turns on one core.

use std::time::Duration;

use super::inward::Inward;
use super::io::{PortsAlone, Tenant};
use super::ovs::Ovs;
use super::{Ticks, stop};
use crate::switch::Switch;

/// Until caches of flows are warm after a pause.
const SETTLE: Duration = Duration::from_millis(300);

/// Ticks per packet by turn, of one side.
#[derive(Debug, Clone, Default)]
pub struct Side {
    /// All of it.
    pub total: Vec<f64>,
    /// Ports alone; empty where they are not taken off.
    pub ports: Vec<f64>,
}

/// Ours, as far as one way needs it.
pub enum Ours {
    /// The daemon.
    Switch(Switch),
    /// A worker of this process.
    Inward(Inward),
}

/// A switch, its tenant, and its ports without it.
pub struct Contestant<S> {
    switch: S,
    tenant: Option<Tenant>,
    /// The same ports without it.
    pub ports: Option<PortsAlone>,
    /// What was found so far.
    pub found: Side,
}

/// What can be measured for a while, and is stopped otherwise.
pub trait Measured {
    /// Stops it, or lets it go on.
    fn pause(&self, pause: bool) -> anyhow::Result<()>;
    /// Ticks and packets of a time.
    fn measure(&self, time: Duration) -> anyhow::Result<Ticks>;
}

impl Measured for Ours {
    fn pause(&self, pause: bool) -> anyhow::Result<()> {
        match self {
            Ours::Switch(switch) => switch.pause(pause),
            // It waits by itself.
            Ours::Inward(_) => Ok(()),
        }
    }

    fn measure(&self, time: Duration) -> anyhow::Result<Ticks> {
        match self {
            Ours::Switch(switch) => switch.measure(time),
            Ours::Inward(inward) => inward.measure(time),
        }
    }
}

impl Measured for Ovs {
    fn pause(&self, pause: bool) -> anyhow::Result<()> {
        Ovs::pause(self, pause)
    }

    fn measure(&self, time: Duration) -> anyhow::Result<Ticks> {
        Ovs::measure(self, time)
    }
}

impl<S: Measured> Contestant<S> {
    /// One that is stopped.
    pub fn new(switch: S, tenant: Option<Tenant>) -> Contestant<S> {
        Contestant {
            switch,
            tenant,
            ports: None,
            found: Side::default(),
        }
    }

    /// Its turn, and then its ports'.
    pub fn turn(&mut self, time: Duration) -> anyhow::Result<()> {
        stop::check()?;
        self.switch.pause(false)?;
        if let Some(tenant) = &mut self.tenant {
            tenant.send(true)?;
        }
        std::thread::sleep(SETTLE);
        let ticks = self.switch.measure(time)?;
        self.found.total.push(ticks.per_packet()?);
        if let Some(tenant) = &mut self.tenant {
            tenant.send(false)?;
        }
        self.switch.pause(true)?;
        if let Some(ports) = &mut self.ports {
            self.found
                .ports
                .push(ports.measure(time / 2)?.per_packet()?);
        }
        Ok(())
    }

    /// Ends all but the switch, which runs on.
    pub fn end(self) -> anyhow::Result<S> {
        if let Some(ports) = self.ports {
            ports.quit()?;
        }
        self.switch.pause(false)?;
        if let Some(tenant) = self.tenant {
            tenant.quit()?;
        }
        Ok(self.switch)
    }
}

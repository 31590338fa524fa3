//! `peers`: this switch, protected, beside Open vSwitch with DPDK in the clear, on the same
//! ports of the same drivers, one polling thread each, pinned to the same core.
//!
//! They take turns, second by second; who is not measured is stopped (SIGSTOP), so that the
//! core belongs to one of them. What the ports alone cost is measured in the same turns, by
//! testpmd, and taken off where both have the same ports.

pub mod frames;
mod inward;
mod io;
mod ovs;
mod switch;
mod tables;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::{Memory, choose, survey};
use vswitch::dpdk::thread::allowed_cores;
use vswitch::dpdk::time::TscClock;
use vswitch_aead::Backend;

use crate::datapath::edge::VNI;
use crate::machine::Machine;
use crate::report::{Record, write_json};
use crate::save::save;
use crate::stats::median;
use frames::Tunnel;
use io::{PortsAlone, Tenant};
use ovs::{Ovs, Port, Setup};
use switch::{Attachment, Switch};

/// Name of the benchmark.
pub const NAME: &str = "peers";
/// Inner frames in bytes, without FCS.
pub const SIZES: [usize; 3] = [64, 512, 1400];

/// Ours, in records.
pub const OURS: &str = "vswitch";
/// The peer.
pub const OVS: &str = "ovs-dpdk";

/// Until caches of flows are warm after a pause.
const SETTLE: Duration = Duration::from_millis(300);
/// Hugepages that all processes of a case need together, in megabytes.
const MEMORY: u32 = 1200;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a device with the tenant's frames to the underlay.
    Out,
    /// From the underlay to a device for the tenant.
    In,
    /// From a vhost queue to the underlay.
    Vhost,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 3] = [Way::Out, Way::In, Way::Vhost];

    /// Name for cases.
    pub const fn name(self) -> &'static str {
        match self {
            Way::Out => "tenant-to-underlay",
            Way::In => "underlay-to-tenant",
            Way::Vhost => "vhost-tenant-to-underlay",
        }
    }
}

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// JSON lines instead of tables.
    #[arg(long)]
    json: bool,
    /// One short round: shows that everything works, not how fast it is.
    #[arg(long)]
    quick: bool,
    /// Only ways whose name (such as `underlay-to-tenant`) contains this.
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Only frames of so many bytes.
    #[arg(long, value_name = "BYTES")]
    size: Option<usize>,
    /// Turns of each; figures are medians over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// Milliseconds of each turn.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(50..=60_000))]
    time: u64,
    /// The tunnel of Open vSwitch; ours is always Geneve in ESP.
    #[arg(long, value_enum, default_value_t = Tunnel::Vxlan)]
    tunnel: Tunnel,
    /// The CPU to measure on; without it, the last that may be used.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
    /// Keep the figures in this directory too: JSON lines and the tables.
    #[arg(long, value_name = "DIR")]
    save: Option<PathBuf>,
}

/// CPUs: one for polling, one for everything else.
#[derive(Debug, Clone, Copy)]
pub struct Cores {
    /// Control, and the tenant.
    pub main: usize,
    /// The measured one.
    pub worker: usize,
}

/// What a thread took for how many packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticks {
    /// TSC ticks in which it had packets at hand.
    pub ticks: u64,
    /// Packets.
    pub packets: u64,
}

impl Ticks {
    /// Ticks per packet; an error if there was none.
    pub fn per_packet(self) -> anyhow::Result<f64> {
        ensure!(self.packets > 0, "no packet in a whole turn");
        Ok(self.ticks as f64 / self.packets as f64)
    }
}

/// Ticks per packet by turn, of one side.
#[derive(Debug, Clone, Default)]
struct Side {
    total: Vec<f64>,
    /// Ports alone; empty where they are not taken off.
    ports: Vec<f64>,
}

/// What was found of one case.
struct Found {
    way: Way,
    bytes: usize,
    ours: Side,
    /// `None` without Open vSwitch.
    ovs: Option<Side>,
}

/// What all cases have in common.
struct Ground {
    cores: Cores,
    hugepages: bool,
    backend: &'static dyn Backend,
    /// Open vSwitch's programs, if it is there.
    ovs: Option<PathBuf>,
    tunnel: Tunnel,
    rounds: usize,
    time: Duration,
}

/// Runs the benchmark and prints what it found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let cores = allowed_cores();
    let worker = options.core.or(cores.last().copied());
    let worker = worker.context("no CPU to measure on")?;
    let main = cores.iter().copied().find(|core| *core != worker);
    let main = main.context("two CPUs are needed: one polls, one has everything else")?;
    let hugepages = choose(Memory::Auto, MEMORY, &survey()).is_ok_and(|found| found.hugepages);
    let backend = vswitch_aead::select(None)?;
    let eal = Eal::init(&EalConfig {
        memory: if hugepages {
            Memory::Hugepages
        } else {
            Memory::NoHuge
        },
        memory_mb: 128,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let hz = TscClock::new()?.hz();
    let machine = Machine::here(worker, cores.len(), hz, eal.hugepages(), backend.name());
    let (usr, missing) = match ovs::find() {
        Ok(usr) => (Some(usr), None),
        Err(why) => (None, Some(why)),
    };
    let ground = Ground {
        cores: Cores { main, worker },
        hugepages,
        backend,
        ovs: usr,
        tunnel: options.tunnel,
        rounds: if options.quick {
            1
        } else {
            options.rounds.into()
        },
        time: Duration::from_millis(if options.quick { 100 } else { options.time }),
    };
    let only = options.only.as_deref().unwrap_or_default();
    let mut found = Vec::new();
    for way in Way::ALL.into_iter().filter(|way| way.name().contains(only)) {
        let wanted = |bytes: &usize| options.size.is_none_or(|only| only == *bytes);
        for bytes in SIZES.into_iter().filter(wanted) {
            let case = ground.case(way, bytes);
            found.push(case.with_context(|| format!("{}, {bytes} B", way.name()))?);
        }
    }
    ensure!(!found.is_empty(), "no case is called so");
    let mut records = Vec::new();
    for case in &found {
        records.extend(case.records()?);
    }
    let mut text = Vec::new();
    tables::write(&mut text, &records, &machine, &ground, missing.as_deref())?;
    if let Some(dir) = &options.save {
        save(dir, NAME, &records, &machine, &text, &[])?;
    }
    let mut out = std::io::stdout().lock();
    match options.json {
        true => write_json(&mut out, &records, &machine)?,
        false => out.write_all(&text)?,
    }
    Ok(out.flush()?)
}

/// Ours, as far as one way needs it.
enum Ours {
    Switch(Switch),
    Inward(inward::Inward),
}

impl Ground {
    fn case(&self, way: Way, bytes: usize) -> anyhow::Result<Found> {
        let dir = tempfile::Builder::new().prefix("vsw").tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let (clear, ours) = (at("clear.pcap"), at("ours.pcap"));
        match way {
            Way::Out => {
                frames::write(&clear, &frames::from_tenant(bytes, None))?;
                frames::write(&ours, &frames::from_tenant(bytes, Some(switch::VID)))?;
            }
            // Ours is written by the worker's other end.
            Way::In => frames::write(&clear, &frames::from_stations(bytes, self.tunnel, VNI)?)?,
            Way::Vhost => frames::write(&clear, &frames::from_tenant(bytes, None))?,
        }
        let mut our_side = match way {
            Way::Out => self.our_switch(dir.path(), Attachment::Capture(&ours), None)?,
            Way::In => {
                let inward = inward::start(self.cores.worker, self.backend, bytes, &ours)?;
                Contestant::new(Ours::Inward(inward), None)
            }
            Way::Vhost => {
                let socket = at("ours.sock");
                let tenant = Tenant::start("tenant-1", self.cores, &clear, &socket)?;
                self.our_switch(dir.path(), Attachment::Vhost(&socket), Some(tenant))?
            }
        };
        if way != Way::Vhost {
            our_side.ports = Some(self.ports("ports-1", &ours)?);
        }
        let peer = match &self.ovs {
            Some(usr) => Some(self.peer(usr, dir.path(), way, &clear)?),
            None => None,
        };
        self.turns(way, bytes, our_side, peer)
    }

    fn ports(&self, name: &str, capture: &Path) -> anyhow::Result<PortsAlone> {
        PortsAlone::start(name, self.cores, self.hugepages, capture)
    }

    fn our_switch(
        &self,
        dir: &Path,
        attachment: Attachment<'_>,
        mut tenant: Option<Tenant>,
    ) -> anyhow::Result<Contestant<Ours>> {
        let switch = switch::start(dir, self.cores, self.hugepages, attachment)?;
        if let Some(tenant) = &mut tenant {
            tenant.ready()?;
        }
        switch.connected()?;
        switch.pause(true)?;
        Ok(Contestant::new(Ours::Switch(switch), tenant))
    }

    fn peer(
        &self,
        usr: &Path,
        dir: &Path,
        way: Way,
        capture: &Path,
    ) -> anyhow::Result<Contestant<Ovs>> {
        let (source, sink) = (
            Port::device(&io::source(0, capture)),
            Port::device(&io::sink(0)),
        );
        let socket = dir.join("ovs.sock");
        let (tenant, underlay) = match way {
            Way::Out => (source, sink),
            Way::In => (sink, source),
            Way::Vhost => (Port::vhost(&socket), sink),
        };
        let mut sender = match way {
            Way::Vhost => Some(Tenant::start("tenant-2", self.cores, capture, &socket)?),
            _ => None,
        };
        let ovs = Ovs::start(
            usr,
            &Setup {
                dir,
                cores: self.cores,
                hugepages: self.hugepages,
                tunnel: self.tunnel,
                vni: VNI,
                tenant,
                underlay,
            },
        )?;
        if let Some(sender) = &mut sender {
            sender.ready()?;
            ovs.connected("vm")?;
            sender.send(true)?;
        }
        ovs.prove(match way {
            Way::In => "tun_id=",
            _ => "tnl_push",
        })?;
        if let Some(sender) = &mut sender {
            sender.send(false)?;
        }
        ovs.pause(true)?;
        let mut peer = Contestant::new(ovs, sender);
        if way != Way::Vhost {
            peer.ports = Some(self.ports("ports-2", capture)?);
        }
        Ok(peer)
    }

    fn turns(
        &self,
        way: Way,
        bytes: usize,
        mut ours: Contestant<Ours>,
        mut peer: Option<Contestant<Ovs>>,
    ) -> anyhow::Result<Found> {
        // One turn more, to warm up.
        for round in 0..=self.rounds {
            // Who goes first changes.
            if round % 2 == 0 {
                ours.turn(self.time)?;
            }
            if let Some(peer) = &mut peer {
                peer.turn(self.time)?;
            }
            if round % 2 == 1 {
                ours.turn(self.time)?;
            }
            if round == 0 {
                ours.found = Side::default();
                if let Some(peer) = &mut peer {
                    peer.found = Side::default();
                }
            }
        }
        let found = Found {
            way,
            bytes,
            ours: ours.found.clone(),
            ovs: peer.as_ref().map(|peer| peer.found.clone()),
        };
        // The tenants first: their sockets' other ends would wait for them.
        if let Some(peer) = peer {
            let ovs = peer.end()?;
            drop(ovs);
        }
        match ours.end()? {
            Ours::Switch(switch) => {
                switch.pause(false)?;
                switch.stop()?;
            }
            Ours::Inward(inward) => inward.stop()?,
        }
        Ok(found)
    }
}

/// A switch, its tenant, and its ports without it.
struct Contestant<S> {
    switch: S,
    tenant: Option<Tenant>,
    ports: Option<PortsAlone>,
    found: Side,
}

/// What can be measured for a while, and is stopped otherwise.
trait Measured {
    fn pause(&self, pause: bool) -> anyhow::Result<()>;
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
    fn new(switch: S, tenant: Option<Tenant>) -> Contestant<S> {
        Contestant {
            switch,
            tenant,
            ports: None,
            found: Side::default(),
        }
    }

    fn turn(&mut self, time: Duration) -> anyhow::Result<()> {
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

    fn end(self) -> anyhow::Result<S> {
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

impl Found {
    fn records(&self) -> anyhow::Result<Vec<Record>> {
        let mut records = Vec::new();
        let sides = [(OURS, Some(&self.ours)), (OVS, self.ovs.as_ref())];
        for (name, side) in sides {
            let Some(side) = side else {
                continue;
            };
            let record = |part, value| Record {
                bench: NAME,
                case: format!("{}/{name}", self.way.name()),
                part,
                bytes: self.bytes,
                unit: "ticks/packet",
                stat: "median",
                value,
            };
            let total = median(&side.total).context("no turns")?;
            records.push(record("total", total));
            if let Some(ports) = median(&side.ports) {
                records.push(record("ports", ports));
                records.push(record("without-io", total - ports));
            }
        }
        Ok(records)
    }
}

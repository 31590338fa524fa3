//! The processes of one case, started, measured in turns and ended.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vswitch_aead::Backend;

use super::frames::{self, Tunnel};
use super::io::{self, PortsAlone, Tenant};
use super::ovs::{Ovs, Port, Setup};
use super::turns::{Contestant, Ours, Side};
use super::{Cores, Found, Way, inward, stop};
use crate::datapath::edge::VNI;
use crate::switch::{self, Attachment, Setup as OurSetup};

/// What all cases have in common.
pub struct Ground {
    /// CPUs.
    pub cores: Cores,
    /// Whether there are hugepages for all.
    pub hugepages: bool,
    /// AES-GCM.
    pub backend: &'static dyn Backend,
    /// Open vSwitch's programs, if it is there.
    pub ovs: Option<PathBuf>,
    /// Open vSwitch's.
    pub tunnel: Tunnel,
    /// Turns.
    pub rounds: usize,
    /// Of a turn.
    pub time: Duration,
}

impl Ground {
    /// Measures one case.
    pub fn case(&self, way: Way, bytes: usize) -> anyhow::Result<Found> {
        stop::check()?;
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
            Way::Out => self.our_switch(dir.path(), Attachment::Captures(&[&ours]), None)?,
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
        let switch = switch::start(&OurSetup {
            dir,
            name: "ours",
            cores: &[self.cores.worker],
            hugepages: self.hugepages,
            aead: self.backend.name(),
            tenant: attachment,
            underlay: &io::sink(0),
            senders: &[0],
        })?;
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
            Port::device(&io::source(0, &[capture])),
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

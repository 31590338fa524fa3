//! VLANs of physical ports: what is behind them is admitted by the VLAN, unless it contradicts the
//! mappings.

use arrayvec::ArrayVec;
use vswitch_net::ethernet::{HEADER_LEN, TAG_LEN};
use vswitch_net::frame::Frame;
use vswitch_net::quick;
use vswitch_vn::{Claim, Destination, Key, PortId, VnId};

use super::counters::Sum;
use super::forward::{LastTunnel, Origin};
use super::observe::{Place, Step};
use super::outlet::{Note, Way};
use super::probe::Probe;
use super::tenant::{check_addresses, spoof_verdict};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf};

/// Which VLAN a port is.
#[derive(Debug, Clone, Copy)]
pub(super) struct VlanPort {
    /// The device that carries it.
    pub device: u16,
    /// Its identifier (IEEE 802.1Q).
    pub vid: u16,
}

/// Frames of one VLAN that follow one another.
#[derive(Clone, Copy)]
struct Run {
    vid: u16,
    port: PortId,
    vn: VnId,
    learning: bool,
    received: Sum,
    frames: usize,
}

impl<P: Probe> Worker<P> {
    /// A burst from a device that carries VLANs.
    pub(super) fn trunk_input(&mut self, device: u16, burst: &mut Burst) {
        let (mut runs, mut frames) = (ArrayVec::<Run, BURST>::new(), Burst::new());
        let mut claims: ArrayVec<Claim, BURST> = ArrayVec::new();
        let mut keys: ArrayVec<Key, BURST> = ArrayVec::new();
        for mut packet in burst.drain(..) {
            let vid = match packet.take_stripped_vlan() {
                Some(tci) => Some(tci & 0xfff),
                None => strip_tag(&mut packet),
            };
            if vid.is_none() || runs.last().map(|run| run.vid) != vid {
                match self.run_of(device, vid) {
                    Ok(run) => runs.push(run),
                    Err(verdict) => {
                        self.counters.end(verdict, packet);
                        continue;
                    }
                }
            }
            let Some(run) = runs.last_mut() else {
                self.counters.end(Verdict::UnexpectedVlan, packet);
                continue;
            };
            run.received.add(packet.len());
            run.frames += 1;
            let Run { vid, port, vn, .. } = *run;
            self.counters.step(&packet, || Step::Vlan { vid, port, vn });
            // What nearly all frames are. An observer wants to know of the mapping too.
            let quick = match P::OBSERVES || packet.needs_l4_checksum() {
                true => None,
                false => quick::frame(packet.head(), packet.len()),
            };
            // Nobody vouches for the source of what is not.
            let known = quick.unwrap_or(quick::NOTHING);
            claims.push(Claim {
                key: Key::of(vn, known.src),
                destination: Destination::Port(port),
                ipv4: known.src_ip,
            });
            keys.push(Key::of(vn, known.dst));
            frames.push(packet);
        }
        let (mut vouched, mut found) = ([false; BURST], [None; BURST]);
        if !P::OBSERVES {
            self.tables.vouch_burst(&claims, &mut vouched);
            self.tables.lookup_burst(&keys, &mut found);
        }
        let mut known = keys.iter().zip(vouched).zip(found);
        let mut frames = frames.drain(..);
        let mut last = LastTunnel::default();
        for run in runs {
            if let Some(traffic) = self.counters.ports.get_mut(run.port.index()) {
                traffic.rx_all(run.received);
            }
            let mut admitted = run.received;
            let mine = frames.by_ref().zip(known.by_ref()).take(run.frames);
            for (packet, ((key, vouched), found)) in mine {
                if vouched {
                    self.forward_usual(run.vn, run.port, *key, found, packet, &mut last);
                } else {
                    let len = packet.len();
                    if !self.trunk_thorough(&run, packet) {
                        admitted.remove(len);
                    }
                }
            }
            if let Some(traffic) = self.counters.vns.get_mut(run.vn.index()) {
                traffic.rx_all(admitted);
            }
        }
    }

    /// Checks and forwards a frame; tells whether it was admitted.
    #[inline(never)]
    fn trunk_thorough(&mut self, run: &Run, mut packet: Mbuf) -> bool {
        let (port, vn) = (run.port, run.vn);
        match self.check(port, &mut packet) {
            Err(verdict) => {
                self.end(Origin::Port(port), vn, verdict, packet);
                false
            }
            Ok(frame) => {
                self.note_admitted(port, &frame, &packet);
                if frame.stranger && run.learning {
                    self.learn(vn, frame.src, Destination::Port(port));
                }
                self.forward(vn, Origin::Port(port), frame.dst, packet);
                true
            }
        }
    }

    /// Which network a VLAN of a device is.
    #[inline]
    fn run_of(&self, device: u16, vid: Option<u16>) -> Result<Run, Verdict> {
        let vid = vid.ok_or(Verdict::UnexpectedVlan)?;
        let port = self
            .vlans
            .get(usize::from(device))
            .and_then(|vids| vids.get(usize::from(vid)).copied().flatten())
            .ok_or(Verdict::UnexpectedVlan)?;
        let known = self.tables.port(port).ok_or(Verdict::NoVn)?;
        Ok(Run {
            vid,
            port,
            vn: known.vn,
            learning: known.learning,
            received: Sum::default(),
            frames: 0,
        })
    }

    /// A source behind a VLAN: refused if it is mapped elsewhere or uses others' addresses.
    /// Returns whether it has no mapping. Routers are admitted: physical networks have them.
    pub(super) fn check_vlan_source(&self, port: PortId, frame: &Frame) -> Result<bool, Verdict> {
        if frame.vlan.is_some() {
            return Err(Verdict::UnexpectedVlan);
        }
        if frame.src.is_multicast() {
            return Err(Verdict::SpoofedMac);
        }
        let vn = self.tables.port(port).ok_or(Verdict::NoVn)?.vn;
        let mapping = self.tables.mapping(vn, frame.src);
        if mapping.is_some_and(|mapping| mapping.destination != Destination::Port(port)) {
            return Err(Verdict::SpoofedMac);
        }
        check_addresses(&self.tables, vn, mapping, true, frame).map_err(spoof_verdict)?;
        Ok(mapping.is_none())
    }

    /// The VLAN that a port is, if it is one.
    #[inline(always)]
    pub(super) fn vlan_of(&self, port: PortId) -> Option<VlanPort> {
        self.vlan_ports.get(port.index()).copied().flatten()
    }

    /// Sends a frame to a VLAN: tagged, by the device's outlet.
    pub(super) fn deliver_to_vlan(&mut self, port: PortId, vlan: VlanPort, mut packet: Mbuf) {
        let VlanPort { device, vid } = vlan;
        let Some(way) = self.trunks.get_mut(usize::from(device)) else {
            return self.port_drop(port, Verdict::TenantDown, packet);
        };
        match way {
            Way::Via(worker) => {
                let worker = *worker;
                let work = super::handoff::Work::Deliver(port);
                self.handoff.send(worker, work, packet, &mut self.counters);
            }
            Way::Mine(outlet) => {
                packet.clear_offload_flags();
                // Without the tag, as what comes in is counted.
                let bytes = packet.len();
                if push_tag(&mut packet, vid).is_err() {
                    return self.port_drop(port, Verdict::NoRoom, packet);
                }
                self.counters
                    .step(&packet, || Step::Queued(Place::Port(port)));
                Note::vlan(port, bytes).put(&mut packet);
                outlet.push(packet, &self.reader, &mut self.counters);
            }
            Way::Down => self.port_drop(port, Verdict::TenantDown, packet),
        }
    }
}

/// Removes an 802.1Q tag and returns its VLAN; `None` if the frame has none.
fn strip_tag(packet: &mut Mbuf) -> Option<u16> {
    let head: &mut [u8; HEADER_LEN + 2] = packet.head_mut().first_chunk_mut()?;
    let [addresses @ .., t0, t1, v0, v1] = *head;
    if [t0, t1] != [0x81, 0x00] {
        return None;
    }
    let vid = u16::from_be_bytes([v0, v1]) & 0xfff;
    *head.last_chunk_mut::<12>()? = addresses;
    packet.trim_front(TAG_LEN).ok()?;
    Some(vid)
}

/// Puts an 802.1Q tag behind the addresses.
fn push_tag(packet: &mut Mbuf, vid: u16) -> Result<(), Verdict> {
    packet.prepend(TAG_LEN).map_err(|_| Verdict::NoRoom)?;
    let head = packet.head_mut().first_chunk_mut::<{ TAG_LEN + 12 }>();
    let head = head.ok_or(Verdict::Malformed)?;
    let [_, _, _, _, addresses @ ..] = *head;
    let [v0, v1] = vid.to_be_bytes();
    let (first, tag) = head.split_at_mut(12);
    first.copy_from_slice(&addresses);
    tag.copy_from_slice(&[0x81, 0x00, v0, v1]);
    Ok(())
}

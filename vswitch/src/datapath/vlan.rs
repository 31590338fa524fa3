//! VLANs of physical ports: what is behind them is admitted by the VLAN, unless it contradicts the
//! mappings.

use arrayvec::ArrayVec;
use vswitch_net::ethernet::{HEADER_LEN, TAG_LEN};
use vswitch_net::frame::Frame;
use vswitch_net::quick;
use vswitch_vn::{Claim, Destination, Key, PortId, VnId};

use super::forward::{LastTunnel, Origin};
use super::observe::{Place, Step};
use super::outlet::{Note, Way};
use super::probe::Probe;
use super::tenant::{check_addresses, spoof_verdict};
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf};

/// A frame, and the VLAN that it came from.
struct Tagged {
    packet: Mbuf,
    port: PortId,
    vn: VnId,
    learning: bool,
    quick: bool,
}

impl<P: Probe> Worker<P> {
    /// A burst from a device that carries VLANs.
    pub(super) fn trunk_input(&mut self, device: u16, burst: &mut Burst) {
        let mut tagged: ArrayVec<Tagged, BURST> = ArrayVec::new();
        let mut claims: ArrayVec<Claim, BURST> = ArrayVec::new();
        let mut keys: ArrayVec<Key, BURST> = ArrayVec::new();
        for mut packet in burst.drain(..) {
            let vid = match packet.take_stripped_vlan() {
                Some(tci) => Some(tci & 0xfff),
                None => strip_tag(&mut packet),
            };
            let port = vid.and_then(|vid| {
                let vids = self.vlans.get(usize::from(device))?;
                vids.get(usize::from(vid)).copied().flatten()
            });
            let Some(port) = port else {
                self.counters.end(Verdict::UnexpectedVlan, packet);
                continue;
            };
            let Some(p) = self.tables.port(port) else {
                self.counters.end(Verdict::NoVn, packet);
                continue;
            };
            let (vn, learning) = (p.vn, p.learning);
            let vid = vid.unwrap_or_default();
            self.counters.step(&packet, || Step::Vlan { vid, port, vn });
            if let Some(traffic) = self.counters.ports.get_mut(port.index()) {
                traffic.rx(packet.len());
            }
            // What nearly all frames are. An observer wants to know of the mapping too.
            let quick = match P::OBSERVES || packet.needs_l4_checksum() {
                true => None,
                false => quick::frame(packet.head(), packet.len()),
            };
            let known = quick.unwrap_or(quick::NOTHING);
            claims.push(Claim {
                key: Key::of(vn, known.src),
                destination: Destination::Port(port),
                ipv4: known.src_ip,
            });
            keys.push(Key::of(vn, known.dst));
            tagged.push(Tagged {
                packet,
                port,
                vn,
                learning,
                quick: quick.is_some(),
            });
        }
        let (mut vouched, mut found) = ([false; BURST], [None; BURST]);
        if !P::OBSERVES {
            self.tables.vouch_burst(&claims, &mut vouched);
            self.tables.lookup_burst(&keys, &mut found);
        }
        let known = keys.iter().zip(vouched).zip(found);
        let mut last = LastTunnel::default();
        for (tagged, ((key, vouched), found)) in tagged.drain(..).zip(known) {
            let (port, vn) = (tagged.port, tagged.vn);
            if !(tagged.quick && vouched) {
                self.trunk_thorough(tagged);
                continue;
            }
            if let Some(traffic) = self.counters.vns.get_mut(vn.index()) {
                traffic.rx(tagged.packet.len());
            }
            self.forward_usual(vn, port, *key, found, tagged.packet, &mut last);
        }
    }

    #[inline(never)]
    fn trunk_thorough(&mut self, tagged: Tagged) {
        let Tagged {
            mut packet,
            port,
            vn,
            learning,
            ..
        } = tagged;
        match self.check(port, &mut packet) {
            Err(verdict) => self.end(Origin::Port(port), vn, verdict, packet),
            Ok(frame) => {
                self.note_admitted(port, &frame, &packet);
                if frame.stranger && learning {
                    self.learn(vn, frame.src, Destination::Port(port));
                }
                if let Some(traffic) = self.counters.vns.get_mut(vn.index()) {
                    traffic.rx(packet.len());
                }
                self.forward(vn, Origin::Port(port), frame.dst, packet);
            }
        }
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

    /// Sends a frame to a VLAN: tagged, by the device's outlet.
    pub(super) fn deliver_to_vlan(&mut self, port: PortId, device: u16, mut packet: Mbuf) {
        let vid = self
            .attachments
            .get(port.index())
            .and_then(|a| a.as_ref())
            .map_or(0, |a| a.vid);
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
    let head = packet.head_mut();
    let tag = head.get(12..HEADER_LEN + 2)?;
    if tag.get(..2)? != [0x81, 0x00] {
        return None;
    }
    let vid = u16::from_be_bytes([*tag.get(2)?, *tag.get(3)?]) & 0xfff;
    head.copy_within(0..12, TAG_LEN);
    packet.trim_front(TAG_LEN).ok()?;
    Some(vid)
}

/// Puts an 802.1Q tag behind the addresses.
fn push_tag(packet: &mut Mbuf, vid: u16) -> Result<(), Verdict> {
    packet.prepend(TAG_LEN).map_err(|_| Verdict::NoRoom)?;
    let head = packet.head_mut();
    if head.len() < TAG_LEN + 12 {
        return Err(Verdict::Malformed);
    }
    head.copy_within(TAG_LEN..TAG_LEN + 12, 0);
    let vid = vid.to_be_bytes();
    if let Some(tag) = head.get_mut(12..12 + TAG_LEN) {
        tag.copy_from_slice(&[0x81, 0x00, vid[0], vid[1]]);
    }
    Ok(())
}

//! From the underlay: what is overlay traffic for us is taken up, what is nobody's is
//! dropped under its reason, and everything else is the host kernel's.

use std::net::{IpAddr, Ipv4Addr};

use arrayvec::ArrayVec;
use vswitch_net::MacAddr;
use vswitch_net::esp::{self, UdpPayload};
use vswitch_net::ethernet::ethertype;
use vswitch_net::ip::{Fragment, protocol};
use vswitch_net::outer::{self, Outer, OuterError};
use vswitch_net::quick::{self, QuickOuter};
use vswitch_net::tunnel::Encapsulation;

use super::clear::Clear;
use super::counters::Sum;
use super::demand::Terms;
use super::handoff::Work;
use super::inward::Arrivals;
use super::observe::Step;
use super::outlet::{Note, Way};
use super::police::Urgency;
use super::probe::{Probe, Stage};
use super::sightings::Subject;
use super::spis::Located;
use super::verdict::Verdict;
use super::worker::Worker;
use crate::dpdk::mbuf::{BURST, Burst, Mbuf};

/// Our end of the tunnels.
#[derive(Debug, Clone, Default)]
pub struct Endpoints {
    /// Addresses that peers send to.
    pub local: Vec<IpAddr>,
    /// UDP port of encapsulated ESP.
    pub esp_port: u16,
    /// MAC of each underlay port, by index.
    pub macs: Vec<MacAddr>,
}

/// Headers that must lie in the first buffer: outer Ethernet to tunnel, IPv6 extensions.
const HEADERS: usize = 192;

/// What an underlay packet is.
enum Kind {
    Esp {
        spi: u32,
        start: usize,
        end: usize,
        src: IpAddr,
    },
    Clear(Clear),
    Kernel(Urgency),
    End(Verdict),
}

/// What the usual packet has: our MAC address and our first IPv4 address.
struct Usual {
    mac: Option<u64>,
    dst: Option<Ipv4Addr>,
    esp_port: u16,
}

impl Usual {
    /// The SPI of a usual ESP packet for us, one of whose addresses mostly is asked for first. `None`
    /// decides nothing.
    #[inline(always)]
    fn esp(&self, packet: &Mbuf, local: &[IpAddr]) -> Option<(u32, QuickOuter)> {
        let head = packet.head();
        let quick = quick::outer(head, packet.len())?;
        let ours = quick.dport == self.esp_port
            && self.mac == Some(quick.dst_mac)
            && (self.dst == Some(quick.dst) || local.contains(&IpAddr::V4(quick.dst)))
            && quick.end >= QuickOuter::PAYLOAD + esp::HEADER_LEN;
        let spi = head.get(QuickOuter::PAYLOAD..)?.first_chunk()?;
        let spi = u32::from_be_bytes(*spi);
        // Zero is IKE's.
        (ours && spi != 0).then_some((spi, quick))
    }
}

impl<P: Probe> Worker<P> {
    /// A burst from an underlay port.
    pub(super) fn underlay_input(&mut self, port: u16, burst: &mut Burst) {
        self.take_underlay(port, burst, false);
    }

    /// ESP packets that a colleague found to be ours.
    pub(super) fn open_handed_in(&mut self, port: u16, burst: &mut Burst) {
        if !burst.is_empty() {
            self.take_underlay(port, burst, true);
        }
    }

    fn take_underlay(&mut self, port: u16, burst: &mut Burst, handed_in: bool) {
        self.counters.probe.enter();
        let n = burst.len();
        let mut arrivals = Arrivals::default();
        let mut clear: ArrayVec<(Mbuf, Clear), BURST> = ArrayVec::new();
        if !handed_in && let Some(traffic) = self.counters.underlays.get_mut(usize::from(port)) {
            let mut sum = Sum::default();
            burst.iter().for_each(|packet| sum.add(packet.len()));
            traffic.rx_all(sum);
        }
        let many = self.sas.are_many();
        if many {
            self.prefetch_sas(burst);
        }
        let usual = self.usual_outer(port);
        let mut last: Option<(u32, usize)> = None;
        for packet in burst.drain(..) {
            let packet = match P::OBSERVES {
                true => Some(packet),
                false => arrivals.push_like(packet),
            };
            let Some(mut packet) = packet else {
                continue;
            };
            if packet.head().len() < HEADERS.min(packet.len()) && packet.linearize().is_err() {
                self.underlay_drop(port, Verdict::NotContiguous, packet);
                continue;
            }
            // The underlay is untagged: a tag that a driver took out must not make a frame
            // of another VLAN look like one of ours.
            if packet
                .take_stripped_vlan()
                .is_some_and(|tci| tci & 0xfff != 0)
            {
                self.underlay_drop(port, Verdict::UnexpectedVlan, packet);
                continue;
            }
            // What nearly all packets are is found out quickly: ESP over UDP and IPv4, for us.
            if let Some((spi, quick)) = usual.esp(&packet, &self.endpoints.local) {
                // Packets of one SA mostly follow one another.
                let located = match last {
                    Some((known, slot)) if known == spi && !P::OBSERVES => {
                        Some(Located::Mine(slot))
                    }
                    _ => self.locate(spi, QuickOuter::PAYLOAD, &packet),
                };
                if let Some(Located::Mine(slot)) = located {
                    if many && last != Some((spi, slot)) {
                        self.prefetch_run(slot, IpAddr::V4(quick.src));
                    }
                    last = Some((spi, slot));
                    arrivals.push_usual(packet, slot, quick.end, IpAddr::V4(quick.src));
                } else {
                    self.not_mine(port, located, spi, packet, handed_in);
                }
                continue;
            }
            match self.classify(port, &packet) {
                Kind::Esp {
                    spi,
                    start,
                    end,
                    src,
                } => match self.locate(spi, start, &packet) {
                    Some(Located::Mine(slot)) => {
                        if many {
                            self.prefetch_run(slot, src);
                        }
                        packet.truncate(end);
                        arrivals.push(packet, slot, start, src);
                    }
                    other => self.not_mine(port, other, spi, packet, handed_in),
                },
                Kind::Clear(tunnel) => {
                    self.counters
                        .step(&packet, || Step::Clear(tunnel.encapsulation));
                    clear.push((packet, tunnel));
                }
                Kind::Kernel(urgency) => {
                    self.counters.step(&packet, || Step::ForKernel);
                    if self.police.admits::<P>(urgency, self.now) {
                        self.give_to_kernel(port, packet);
                    } else {
                        self.underlay_drop(port, Verdict::KernelRate, packet);
                    }
                }
                Kind::End(Verdict::Keepalive) => self.counters.end(Verdict::Keepalive, packet),
                Kind::End(verdict) => self.underlay_drop(port, verdict, packet),
            }
        }
        self.counters.probe.leave(Stage::Classify, n);
        if !arrivals.is_empty() {
            self.open(port, &mut arrivals);
        }
        if !clear.is_empty() {
            self.counters.probe.enter();
            let n = clear.len();
            self.open_clear(port, &mut clear);
            self.counters.probe.leave(Stage::Decapsulate, n);
        }
    }

    /// An ESP packet whose SA is a colleague's, or nobody's.
    #[inline(never)]
    fn not_mine(
        &mut self,
        port: u16,
        located: Option<Located>,
        spi: u32,
        packet: Mbuf,
        handed_in: bool,
    ) {
        match located {
            Some(Located::Colleague(worker)) if !handed_in => {
                let work = Work::Open(port);
                self.handoff.send(worker, work, packet, &mut self.counters);
            }
            // Handed in and not ours: the SA moved away meanwhile.
            _ if spi < esp::MIN_SPI => self.underlay_drop(port, Verdict::SpiReserved, packet),
            _ => self.underlay_drop(port, Verdict::UnknownSpi, packet),
        }
    }

    /// Who has the SA of an ESP packet that begins at `start`.
    #[inline]
    fn locate(&mut self, spi: u32, start: usize, packet: &Mbuf) -> Option<Located> {
        let located = self.sas.locate(spi);
        let (sas, tables) = (&self.sas, &self.tables);
        self.counters.step(packet, || {
            let seq = packet.head().get(start + 4..start + 8);
            let tunnel = match located {
                Some(Located::Mine(slot)) => sas.inbound(slot).map(|slot| slot.tunnel),
                _ => None,
            };
            Step::Esp {
                spi,
                seq: seq
                    .and_then(|seq| seq.try_into().ok())
                    .map_or(0, u32::from_be_bytes),
                owner: located.map(|located| match located {
                    Located::Mine(_) => self.id,
                    Located::Colleague(worker) => worker,
                }),
                tunnel: tunnel.and_then(|id| Some((id, tables.tunnel(id)?.vn))),
            }
        });
        located
    }

    /// What is asked of the usual packets of a burst.
    #[inline]
    fn usual_outer(&self, port: u16) -> Usual {
        let dst = self.endpoints.local.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        });
        Usual {
            mac: self
                .endpoints
                .macs
                .get(usize::from(port))
                .map(|m| m.as_u64()),
            dst,
            esp_port: self.endpoints.esp_port,
        }
    }

    #[inline(never)]
    fn classify(&self, port: u16, packet: &Mbuf) -> Kind {
        let head = packet.head();
        let ours = self.endpoints.macs.get(usize::from(port)).copied();
        let outer = match outer::classify(head, packet.len()) {
            Ok(outer) => outer,
            Err(OuterError::NotIp(kind)) => return self.classify_other(ours, head, kind),
            Err(_) => return Kind::End(Verdict::Malformed),
        };
        if !outer.dst_mac.is_multicast() && Some(outer.dst_mac) != ours {
            return Kind::End(Verdict::NotForUs);
        }
        if outer.fragment == Fragment::Later {
            // Its first fragment had the port and was dropped; this one is of a tunnel only
            // if it comes from a peer, and the kernel could not put it together anyway.
            let peer =
                outer.protocol == protocol::UDP && self.tables.peer_by_address(outer.src).is_some();
            return if peer {
                Kind::End(Verdict::UnderlayFragment)
            } else {
                Kind::Kernel(Urgency::Rest)
            };
        }
        let Some(udp) = outer.udp else {
            return Kind::Kernel(urgency(&outer, self.terms));
        };
        let tunnel = Encapsulation::from_port(udp.dport);
        let is_esp = udp.dport == self.endpoints.esp_port;
        if !is_esp && tunnel.is_none() {
            return Kind::Kernel(urgency(&outer, self.terms));
        }
        if outer.fragment.is_fragment() {
            return Kind::End(Verdict::UnderlayFragment);
        }
        let to_us = self.endpoints.local.contains(&outer.dst);
        if let Some(encapsulation) = tunnel {
            return if to_us {
                Kind::Clear(Clear {
                    encapsulation,
                    start: udp.payload,
                    end: udp.end,
                    outer,
                })
            } else {
                Kind::End(Verdict::UnderlayDestination)
            };
        }
        let payload = head.get(udp.payload..).unwrap_or_default();
        match esp::classify(payload, udp.end - udp.payload) {
            UdpPayload::Ike => Kind::Kernel(Urgency::Control),
            UdpPayload::Keepalive => Kind::End(Verdict::Keepalive),
            UdpPayload::Short => Kind::End(Verdict::EspTruncated),
            UdpPayload::NotInHead => Kind::End(Verdict::NotContiguous),
            UdpPayload::Esp { .. } if !to_us => Kind::End(Verdict::UnderlayDestination),
            UdpPayload::Esp { spi, .. } => Kind::Esp {
                spi,
                start: udp.payload,
                end: udp.end,
                src: outer.src,
            },
        }
    }

    /// Not IP: ARP, LLDP, whatever else is the kernel's.
    fn classify_other(&self, ours: Option<MacAddr>, head: &[u8], kind: u16) -> Kind {
        // The kernel would take the tag of VLAN 0 off and see what is not for it to see.
        if ethertype::is_vlan(kind) {
            return Kind::End(Verdict::UnexpectedVlan);
        }
        let dst = head.first_chunk::<6>().map(|mac| MacAddr(*mac));
        match dst {
            Some(dst) if dst.is_multicast() || Some(dst) == ours => {
                Kind::Kernel(if kind == ethertype::ARP {
                    Urgency::Neighbour
                } else {
                    Urgency::Rest
                })
            }
            _ => Kind::End(Verdict::NotForUs),
        }
    }

    /// Gives a packet to the host kernel by the tap beside the port.
    pub(super) fn give_to_kernel(&mut self, port: u16, mut packet: Mbuf) {
        match self.taps.get_mut(usize::from(port)) {
            Some(Way::Mine(outlet)) => {
                packet.clear_offload_flags();
                outlet.push(packet, &self.reader, &mut self.counters);
            }
            Some(Way::Via(worker)) => {
                let worker = *worker;
                self.handoff
                    .send(worker, Work::Kernel(port), packet, &mut self.counters);
            }
            Some(Way::Down) | None => self.underlay_drop(port, Verdict::NoExceptionPort, packet),
        }
    }

    /// What the kernel sends by the tap goes out as it is. The worker that owns a tap owns a
    /// queue of its port too.
    pub(super) fn kernel_input(&mut self, port: u16, burst: &mut Burst) {
        let bytes: usize = burst.iter().map(Mbuf::len).sum();
        if let Some(traffic) = self.counters.taps.get_mut(usize::from(port)) {
            traffic.rx_packets += burst.len() as u64;
            traffic.rx_bytes += bytes as u64;
        }
        for packet in burst.iter_mut() {
            Note::NONE.put(packet);
        }
        match self.underlays.get_mut(usize::from(port)) {
            Some(Way::Mine(outlet)) => {
                outlet.pass(burst, Verdict::FromKernel, &self.reader, &mut self.counters);
            }
            _ => {
                for packet in burst.drain(..) {
                    self.transmit(port, packet);
                }
            }
        }
    }

    pub(super) fn underlay_drop(&mut self, port: u16, verdict: Verdict, packet: Mbuf) {
        self.note(verdict, Subject::Underlay(port), &packet);
        self.underlay_end(port, verdict, packet);
    }

    /// The same for what has been noted already.
    pub(super) fn underlay_end(&mut self, port: u16, verdict: Verdict, packet: Mbuf) {
        if let Some(traffic) = self.counters.underlays.get_mut(usize::from(port)) {
            traffic.rx_dropped += 1;
        }
        self.counters.end(verdict, packet);
    }
}

/// Neighbour discovery before everything, then routing protocols, IKE and our own control plane,
/// then the rest.
fn urgency(outer: &Outer, terms: Option<Terms>) -> Urgency {
    const OSPF: u8 = 89;
    const BFD: [u16; 3] = [3784, 3785, 4784];
    const IKE: u16 = 500;
    // A hop limit of 255 proves that the sender is on the link (RFC 5082).
    let on_link = outer.hop_limit == 255;
    let control = match outer.protocol {
        protocol::ICMPV6 if on_link => return Urgency::Neighbour,
        OSPF => true,
        // Network control (RFC 4594): what BGP and its kin mark their packets with.
        protocol::TCP => outer.dscp() == 48 || outer.dscp() == 56,
        protocol::UDP => outer.udp.is_some_and(|udp| {
            on_link && BFD.contains(&udp.dport)
                || udp.dport == IKE
                || terms.is_some_and(|terms| terms.control_port == udp.dport)
        }),
        _ => false,
    };
    if control {
        Urgency::Control
    } else {
        Urgency::Rest
    }
}

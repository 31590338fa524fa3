//! What a frame says about its sender, in Ethernet, ARP, IPv4, IPv6 and Neighbor Discovery
//! alike, against the addresses the sender is known to have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::Serialize;
use thiserror::Error;
use vswitch_net::icmp::v6;
use vswitch_net::{Fragment, Frame, L3, L4, MacAddr, Nd, arp};

/// Why a frame from a tenant is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spoof {
    /// An 802.1Q tag, where the port is an access port.
    #[error("tagged frame from an access port")]
    Vlan,
    /// An 802.3 frame with a length for an EtherType (LLC, SNAP), or a vendor's VLAN tag: what
    /// follows is not read here, but some receivers would (CVE-2021-27853, -27854).
    #[error("LLC frame or a tag of a vendor's EtherType")]
    Llc,
    /// The Ethernet source is not bound to the port, or is a group address.
    #[error("Ethernet source not bound to the port")]
    Mac,
    /// The ARP sender's hardware address is not the Ethernet source.
    #[error("ARP sender is not the Ethernet source")]
    ArpMac,
    /// The ARP sender's IP address (of a probe: the address probed) is not bound to the MAC.
    #[error("ARP sender's IP address not bound")]
    ArpIp,
    /// The IPv4 source is not bound to the MAC.
    #[error("IPv4 source not bound")]
    Ipv4,
    /// The IPv6 source is not bound to the MAC.
    #[error("IPv6 source not bound")]
    Ipv6,
    /// Neighbor Discovery claims an address that is not bound to the MAC.
    #[error("neighbor discovery for an address not bound")]
    NdTarget,
    /// Neighbor Discovery names a link-layer address other than the Ethernet source, or
    /// names one where it must not.
    #[error("neighbor discovery with another's link-layer address")]
    NdLinkLayer,
    /// A router advertisement from a port that is not a router's (RFC 6105).
    #[error("router advertisement from a tenant")]
    RouterAdvertisement,
    /// An ICMPv6 redirect from a port that is not a router's.
    #[error("redirect from a tenant")]
    Redirect,
}

/// The link-local address a MAC address makes (RFC 4291 §2.5.1, appendix A).
pub const fn link_local(mac: MacAddr) -> Ipv6Addr {
    let mac = mac.as_u64();
    let identifier = (mac >> 24 << 40 | 0xff_fe00_0000 | mac & 0xff_ffff) ^ 1 << 57;
    Ipv6Addr::from_bits(0xfe80 << 112 | identifier as u128)
}

fn ensure(condition: bool, spoof: Spoof) -> Result<(), Spoof> {
    if condition { Ok(()) } else { Err(spoof) }
}

/// Whether the station `mac` with the addresses `ips` may have sent a frame. Without `ips` it
/// may use any. With only IPv4 ones it may use no IPv6 beside its EUI-64 link-local address,
/// and the other way round. `router`: whether it may speak as a router to its neighbours.
///
/// # Errors
/// The first thing found wrong.
#[inline]
pub fn check_source(
    mac: MacAddr,
    ips: &[IpAddr],
    router: bool,
    frame: &Frame,
) -> Result<(), Spoof> {
    ensure(frame.vlan.is_none(), Spoof::Vlan)?;
    ensure(frame.src == mac && !mac.is_multicast(), Spoof::Mac)?;
    let source = Source { mac, ips, router };
    match frame.l3 {
        L3::Ipv4 {
            src, dst, fragment, ..
        } => source.check_ipv4(src, dst, fragment, &frame.l4),
        L3::Ipv6 { src, .. } => source.check_ipv6(src, &frame.l4),
        L3::Arp {
            op,
            sender_mac,
            sender_ip,
            target_ip,
            ..
        } => {
            ensure(sender_mac == mac, Spoof::ArpMac)?;
            let claimed = arp_claim(op, sender_ip, target_ip);
            ensure(source.may_use_v4(claimed), Spoof::ArpIp)
        }
        L3::Other(ethertype) => check_ethertype(ethertype),
    }
}

/// Whether a station of which no IP addresses are known may have sent a frame: it may use
/// any that is not `taken` by another station. `physical`: whether it is behind a physical
/// port, where routers are, and who answers for others; else it speaks as no router, and names
/// no link-layer address but its own. Says nothing else about the frame's MAC addresses.
///
/// # Errors
/// The first thing found wrong.
#[inline]
pub fn check_stranger(
    frame: &Frame,
    physical: bool,
    taken: impl Fn(IpAddr) -> bool,
) -> Result<(), Spoof> {
    let untaken = |ip: IpAddr, spoof| ensure(!taken(ip), spoof);
    match frame.l3 {
        L3::Ipv4 { src, .. } => untaken(src.into(), Spoof::Ipv4),
        L3::Ipv6 { src, .. } => {
            untaken(src.into(), Spoof::Ipv6)?;
            let L4::Icmpv6 { ty, nd, .. } = frame.l4 else {
                return Ok(());
            };
            if !physical {
                let source = Source {
                    mac: frame.src,
                    ips: &[],
                    router: false,
                };
                source.check_names(src, ty, nd)?;
            }
            match nd.and_then(|nd| nd_claim(src, nd)) {
                Some(claimed) => untaken(claimed.into(), Spoof::NdTarget),
                None => Ok(()),
            }
        }
        L3::Arp {
            op,
            sender_mac,
            sender_ip,
            target_ip,
            ..
        } => {
            ensure(physical || sender_mac == frame.src, Spoof::ArpMac)?;
            untaken(arp_claim(op, sender_ip, target_ip).into(), Spoof::ArpIp)
        }
        L3::Other(ethertype) => check_ethertype(ethertype),
    }
}

/// Refuses what hides a packet from whoever reads EtherTypes: LLC and SNAP, which some hosts
/// accept IP in, and VLAN tags that the parser does not take for such.
fn check_ethertype(ethertype: u16) -> Result<(), Spoof> {
    let hidden = ethertype < 0x0600 || matches!(ethertype, 0x9100 | 0x9200 | 0x9300);
    ensure(!hidden, Spoof::Llc)
}

/// Whose address the sender says is its own. A probe claims the address it asks for
/// (RFC 5227 §1.1, §2.1.1).
fn arp_claim(op: u16, sender_ip: Ipv4Addr, target_ip: Ipv4Addr) -> Ipv4Addr {
    if sender_ip.is_unspecified() && op == arp::REQUEST {
        target_ip
    } else {
        sender_ip
    }
}

/// The address that a message claims beside its source, if any.
fn nd_claim(src: Ipv6Addr, nd: Nd) -> Option<Ipv6Addr> {
    match nd {
        // Who asks without an address is about to take this one.
        Nd::NeighborSolicit { target, .. } => src.is_unspecified().then_some(target),
        Nd::NeighborAdvert { target, .. } => Some(target),
        Nd::RouterSolicit { .. } | Nd::RouterAdvert { .. } | Nd::Redirect { .. } => None,
    }
}

/// A sender and what it may use.
#[derive(Clone, Copy)]
struct Source<'a> {
    mac: MacAddr,
    /// Empty: any address.
    ips: &'a [IpAddr],
    router: bool,
}

impl Source<'_> {
    fn lists(&self, address: IpAddr) -> bool {
        self.ips.contains(&address)
    }

    fn may_use_v4(&self, address: Ipv4Addr) -> bool {
        if self.ips.is_empty() {
            // Never anybody's source (RFC 1122 §3.2.1.3).
            !address.is_multicast() && !address.is_broadcast() && !address.is_loopback()
        } else {
            self.lists(IpAddr::V4(address))
        }
    }

    fn may_use_v6(&self, address: Ipv6Addr) -> bool {
        if address.is_unicast_link_local() && address == link_local(self.mac) {
            return true;
        }
        if self.ips.is_empty() {
            // Never anybody's source (RFC 4291 §2.5.2, §2.5.3, §2.7).
            !address.is_multicast() && !address.is_unspecified() && !address.is_loopback()
        } else {
            self.lists(IpAddr::V6(address))
        }
    }

    fn check_ipv4(
        &self,
        src: Ipv4Addr,
        dst: Ipv4Addr,
        fragment: Fragment,
        l4: &L4,
    ) -> Result<(), Spoof> {
        // A DHCP client without an address (RFC 2131 §4.1) speaks to everybody.
        let dhcp = src.is_unspecified()
            && dst.is_broadcast()
            && fragment == Fragment::None
            && matches!(
                l4,
                L4::Udp {
                    sport: 68,
                    dport: 67,
                    ..
                }
            );
        ensure(dhcp || self.may_use_v4(src), Spoof::Ipv4)
    }

    fn check_ipv6(&self, src: Ipv6Addr, l4: &L4) -> Result<(), Spoof> {
        let (ty, nd) = match *l4 {
            L4::Icmpv6 { ty, nd, .. } => (ty, nd),
            _ => return ensure(self.may_use_v6(src), Spoof::Ipv6),
        };
        if src.is_unspecified() {
            // Duplicate address detection (RFC 4862 §5.4.2), router solicitation (RFC 4861
            // §4.1) and multicast listener reports (RFC 3590), before there is an address.
            let silent = matches!(
                ty,
                v6::NEIGHBOR_SOLICIT
                    | v6::ROUTER_SOLICIT
                    | v6::MLD_REPORT
                    | v6::MLD_DONE
                    | v6::MLD2_REPORT
            );
            ensure(silent, Spoof::Ipv6)?;
        } else {
            ensure(self.may_use_v6(src), Spoof::Ipv6)?;
        }
        if let Some(claimed) = nd.and_then(|nd| nd_claim(src, nd)) {
            ensure(self.may_use_v6(claimed), Spoof::NdTarget)?;
        }
        self.check_names(src, ty, nd)
    }

    /// Whether it speaks as a router, and of whose link-layer addresses.
    fn check_names(&self, src: Ipv6Addr, ty: u8, nd: Option<Nd>) -> Result<(), Spoof> {
        let Some(nd) = nd else {
            // Types that the parser should have recognized must not pass unread.
            return match ty {
                v6::ROUTER_ADVERT if !self.router => Err(Spoof::RouterAdvertisement),
                v6::REDIRECT if !self.router => Err(Spoof::Redirect),
                _ => Ok(()),
            };
        };
        match nd {
            Nd::NeighborSolicit { source_lla, .. } => self.check_source_lla(src, source_lla),
            Nd::NeighborAdvert { target_lla, .. } => self.check_lla(target_lla),
            Nd::RouterSolicit { source_lla } => self.check_source_lla(src, source_lla),
            Nd::RouterAdvert { source_lla } => {
                ensure(self.router, Spoof::RouterAdvertisement)?;
                self.check_lla(source_lla)
            }
            // A router's redirect names others; that is its purpose.
            Nd::Redirect { .. } => ensure(self.router, Spoof::Redirect),
        }
    }

    fn check_lla(&self, lla: Option<MacAddr>) -> Result<(), Spoof> {
        ensure(lla.is_none_or(|lla| lla == self.mac), Spoof::NdLinkLayer)
    }

    /// No source link-layer address without a source (RFC 4861 §7.1.1, §6.1.1).
    fn check_source_lla(&self, src: Ipv6Addr, lla: Option<MacAddr>) -> Result<(), Spoof> {
        ensure(!src.is_unspecified() || lla.is_none(), Spoof::NdLinkLayer)?;
        self.check_lla(lla)
    }
}

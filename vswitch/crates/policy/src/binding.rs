//! Which source addresses a tenant's port may use: what a frame says about its sender must
//! be what was bound to the port, in Ethernet, ARP, IPv4, IPv6 and Neighbor Discovery
//! alike (the seriousness of SAVI, RFC 7039, with bindings given instead of snooped).

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

/// The addresses bound to one port.
///
/// One flat list, searched in order: ports have a handful of addresses. An empty one lets
/// nothing pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    list: Box<[Binding]>,
    router: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    mac: MacAddr,
    link_local: Ipv6Addr,
    /// Empty: any address.
    ips: Box<[IpAddr]>,
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

impl Bindings {
    /// Bindings of MAC addresses to IP addresses; without IP addresses a MAC address may use
    /// any. One that lists only IPv4 may use no IPv6 beside its EUI-64 link-local address,
    /// and the other way round. A MAC address given twice has the addresses of both.
    pub fn new(addresses: impl IntoIterator<Item = (MacAddr, Vec<IpAddr>)>) -> Self {
        let mut merged: Vec<(MacAddr, Vec<IpAddr>)> = Vec::new();
        for (mac, ips) in addresses {
            match merged.iter_mut().find(|(known, _)| *known == mac) {
                Some((_, known)) => known.extend(ips),
                None => merged.push((mac, ips)),
            }
        }
        let list = merged.into_iter().map(|(mac, ips)| Binding {
            mac,
            link_local: link_local(mac),
            ips: ips.into(),
        });
        Self {
            list: list.collect(),
            router: false,
        }
    }

    /// Whether the port is a router's: then router advertisements and redirects pass.
    #[must_use]
    pub fn with_router(mut self, router: bool) -> Self {
        self.router = router;
        self
    }

    /// The MAC addresses bound to the port.
    pub fn macs(&self) -> impl Iterator<Item = MacAddr> + '_ {
        self.list.iter().map(|binding| binding.mac)
    }

    /// Whether a frame may come from this port.
    ///
    /// # Errors
    /// The first thing found wrong.
    #[inline]
    pub fn check(&self, frame: &Frame) -> Result<(), Spoof> {
        if frame.vlan.is_some() {
            return Err(Spoof::Vlan);
        }
        let binding = self
            .list
            .iter()
            .find(|binding| binding.mac == frame.src)
            .filter(|binding| !binding.mac.is_multicast())
            .ok_or(Spoof::Mac)?;
        match frame.l3 {
            L3::Ipv4 {
                src, dst, fragment, ..
            } => binding.check_ipv4(src, dst, fragment, &frame.l4),
            L3::Ipv6 { src, .. } => binding.check_ipv6(src, &frame.l4, self.router),
            L3::Arp {
                op,
                sender_mac,
                sender_ip,
                target_ip,
                ..
            } => {
                ensure(sender_mac == binding.mac, Spoof::ArpMac)?;
                // A probe claims the address it asks for (RFC 5227 §1.1, §2.1.1).
                let claimed = if sender_ip.is_unspecified() && op == arp::REQUEST {
                    target_ip
                } else {
                    sender_ip
                };
                ensure(binding.may_use_v4(claimed), Spoof::ArpIp)
            }
            L3::Other(_) => Ok(()),
        }
    }
}

impl Binding {
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
        if address == self.link_local {
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

    fn check_ipv6(&self, src: Ipv6Addr, l4: &L4, router: bool) -> Result<(), Spoof> {
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
        match nd {
            Some(nd) => self.check_nd(src, nd, router),
            // Types that the parser should have recognized must not pass unread.
            None if ty == v6::ROUTER_ADVERT && !router => Err(Spoof::RouterAdvertisement),
            None if ty == v6::REDIRECT && !router => Err(Spoof::Redirect),
            None => Ok(()),
        }
    }

    fn check_nd(&self, src: Ipv6Addr, nd: Nd, router: bool) -> Result<(), Spoof> {
        match nd {
            Nd::NeighborSolicit { target, source_lla } => {
                self.check_source_lla(src, source_lla)?;
                // Who asks without an address is about to take this one.
                let claims = src.is_unspecified();
                ensure(!claims || self.may_use_v6(target), Spoof::NdTarget)
            }
            Nd::NeighborAdvert {
                target, target_lla, ..
            } => {
                ensure(self.may_use_v6(target), Spoof::NdTarget)?;
                self.check_lla(target_lla)
            }
            Nd::RouterSolicit { source_lla } => self.check_source_lla(src, source_lla),
            Nd::RouterAdvert { source_lla } => {
                ensure(router, Spoof::RouterAdvertisement)?;
                self.check_lla(source_lla)
            }
            // A router's redirect names others; that is its purpose.
            Nd::Redirect { .. } => ensure(router, Spoof::Redirect),
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

//! Which source addresses a tenant's port may use: the MAC addresses bound to it, each with
//! its IP addresses (SAVI, RFC 7039, with bindings given instead of snooped).

use std::net::{IpAddr, Ipv4Addr};

use vswitch_net::{Frame, MacAddr};

use crate::source::{Spoof, check_source};

/// The addresses bound to one port.
///
/// One flat list, searched in order: ports have a handful of addresses. An empty one lets
/// nothing pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings {
    list: Box<[Binding]>,
    /// The pairs of MAC and IPv4 address in `list`, flat: what nearly every frame is asked for.
    pairs: Box<[(u64, u32)]>,
    router: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Binding {
    mac: MacAddr,
    /// Empty: any address.
    ips: Box<[IpAddr]>,
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
        let pairs = merged.iter().flat_map(|(mac, ips)| {
            let v4 = ips.iter().filter_map(|ip| match ip {
                IpAddr::V4(ip) => Some((*mac, *ip)),
                IpAddr::V6(_) => None,
            });
            // A group address is nobody's source.
            v4.filter(|(mac, _)| !mac.is_multicast())
                .map(|(mac, ip)| (mac.as_u64(), ip.to_bits()))
        });
        let pairs = pairs.collect();
        let list = merged.into_iter().map(|(mac, ips)| Binding {
            mac,
            ips: ips.into(),
        });
        Self {
            list: list.collect(),
            pairs,
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

    /// Whether an IPv4 packet, whole, untagged and no DHCP client's, passes [`Self::check`]
    /// (its MAC address as [`MacAddr::as_u64`] makes it) because its two source addresses are bound to one another. `false` decides nothing.
    #[inline]
    pub fn binds(&self, mac: u64, ip: Ipv4Addr) -> bool {
        let ip = ip.to_bits();
        self.pairs.contains(&(mac, ip))
    }

    /// Whether a frame may come from this port.
    ///
    /// # Errors
    /// The first thing found wrong.
    #[inline]
    pub fn check(&self, frame: &Frame) -> Result<(), Spoof> {
        let binding = self.list.iter().find(|binding| binding.mac == frame.src);
        match binding {
            Some(binding) => check_source(binding.mac, &binding.ips, self.router, frame),
            None if frame.vlan.is_some() => Err(Spoof::Vlan),
            None => Err(Spoof::Mac),
        }
    }
}

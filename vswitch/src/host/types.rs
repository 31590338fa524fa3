//! The words this room exchanges with the rest of the switch: ports in, paths out.
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An Ethernet address in transmission order.
pub type MacAddress = [u8; 6];

/// An IP address with the length of its on-link prefix (`192.0.2.1/24`), or a bare prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNet {
    address: IpAddr,
    prefix: u8,
}

/// Why a text is not an address with a prefix length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IP address with a prefix length, such as 192.0.2.1/24 or 2001:db8::1/64")]
pub struct ParseIpNetError(String);

impl IpNet {
    /// `None` if the prefix is longer than the address (32 or 128 bits).
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(address)).then_some(Self { address, prefix })
    }

    /// The address as written, host bits included.
    pub fn address(self) -> IpAddr {
        self.address
    }

    /// The prefix length in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// Whether `other` is of the same family and inside the prefix.
    pub fn contains(self, other: IpAddr) -> bool {
        let (mine, theirs) = match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                (u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96)
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits()),
            _ => return false,
        };
        match 128_u32.checked_sub(u32::from(self.prefix)) {
            Some(128) | None => true,
            Some(host_bits) => (mine ^ theirs) >> host_bits == 0,
        }
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl fmt::Display for IpNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for IpNet {
    type Err = ParseIpNetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            Self::new(address.parse().ok()?, prefix.parse().ok()?)
        };
        parse().ok_or_else(|| ParseIpNetError(text.to_owned()))
    }
}

/// A neighbour known from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticNeighbour {
    /// The neighbour's address on the link.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: MacAddress,
}

/// A route known from the configuration; used on ports without a tap only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRoute {
    /// The destinations it is for.
    pub to: IpNet,
    /// The gateway; must be among the port's static neighbours.
    pub via: IpAddr,
}

/// One underlay port as this room sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnderlayPort {
    /// The switch's own number of the port, handed back in [`Path::port`].
    pub index: usize,
    /// Name of the exception port in the kernel; without one everything is static.
    pub tap: Option<String>,
    /// The DPDK port's Ethernet address, which its tap gets too.
    pub mac: MacAddress,
    /// Bytes of IP packet that the port carries.
    pub mtu: u16,
    /// Addresses of this host on the port; put on the tap.
    pub addresses: Vec<IpNet>,
    /// Without a tap: the only neighbours there are. With one: permanent entries on it.
    pub static_neighbours: Vec<StaticNeighbour>,
    /// Routes of a port without a tap.
    pub static_routes: Vec<StaticRoute>,
}

/// One way to a destination, complete down to the Ethernet header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path {
    /// [`UnderlayPort::index`] of the port to send on.
    pub port: usize,
    /// The source address the kernel would use (the route's preferred source, else an address
    /// of the port, best one that shares the next hop's prefix).
    pub source_hint: Option<IpAddr>,
    /// Ethernet source: the port's address.
    pub src_mac: MacAddress,
    /// Ethernet destination: the next hop's address.
    pub dst_mac: MacAddress,
}

/// The whole set of ways to a destination; it replaces the set of the update before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUpdate {
    /// The destination, as asked for.
    pub destination: IpAddr,
    /// Equal-cost paths, sorted, without duplicates. Empty: unreachable or not resolved yet.
    pub paths: Vec<Path>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn prefixes_contain_what_they_should() {
        assert!(net("192.0.2.1/24").contains(ip("192.0.2.255")));
        assert!(!net("192.0.2.1/24").contains(ip("192.0.3.0")));
        assert!(net("192.0.2.1/32").contains(ip("192.0.2.1")));
        assert!(!net("192.0.2.1/32").contains(ip("192.0.2.0")));
        assert!(net("0.0.0.0/0").contains(ip("203.0.113.9")));
        assert!(!net("0.0.0.0/0").contains(ip("::1")));
        assert!(net("::/0").contains(ip("2001:db8::1")));
        assert!(net("2001:db8::1/64").contains(ip("2001:db8::ffff:0:0:1")));
        assert!(!net("2001:db8::1/64").contains(ip("2001:db8:0:1::1")));
    }

    #[test]
    fn malformed_prefixes_are_refused() {
        for text in [
            "192.0.2.1",
            "192.0.2.1/33",
            "::/129",
            "x/8",
            "1.2.3.4/-1",
            "",
        ] {
            assert!(text.parse::<IpNet>().is_err(), "{text}");
        }
        assert_eq!(net("2001:db8::1/64").to_string(), "2001:db8::1/64");
    }
}

//! The overlay that is simulated: blocks of edges and networks. All edges of a block are members of all its
//! networks, so that what one edge uses stays the same however many blocks there are.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, ensure};
use vswitch_control::message::Bounded;
use vswitch_control::message::operator::Change;
use vswitch_control::message::overlay::{Endpoint, Ips, Placement, VnSettings, Vni};
use vswitch_control::types::{Mac, NveName, PortName, VnName};

/// Networks that an edge is in.
pub const VNS_PER_EDGE: usize = 4;
/// Name of every port: an edge has one.
const PORT: &str = "port-0";

/// A block has [`VNS_PER_EDGE`] networks; these are the other numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overlay {
    /// Blocks.
    pub blocks: usize,
    /// Edges of each block: members of each of its networks.
    pub members: usize,
    /// Addresses of each edge in each of its networks.
    pub each: usize,
    /// Members of one network more, over all blocks but the first.
    pub broad: usize,
}

/// One address of one edge in one network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Network, [`Overlay::vns`] for the broad one.
    pub vn: usize,
    /// Edge.
    pub edge: usize,
    /// Which address of all.
    pub number: usize,
    /// Which address in its network.
    inner: usize,
}

impl Overlay {
    /// The one that comes nearest to these numbers.
    pub fn near(edges: usize, vns: usize, mappings: usize, broad: usize) -> anyhow::Result<Self> {
        let blocks = vns / VNS_PER_EDGE;
        ensure!(blocks > 0, "at least {VNS_PER_EDGE} networks");
        let members = edges / blocks;
        ensure!(members > 1, "at least {} edges", 2 * blocks);
        let each = (mappings / (blocks * VNS_PER_EDGE * members)).max(1);
        let broad = broad.min((blocks - 1) * members);
        let overlay = Overlay {
            blocks,
            members,
            each,
            broad,
        };
        u32::try_from(2 * overlay.mappings() + 2 * broad).context("too many mappings")?;
        Ok(overlay)
    }

    /// Networks, without the broad one.
    pub const fn vns(&self) -> usize {
        self.blocks * VNS_PER_EDGE
    }

    /// Edges.
    pub const fn edges(&self) -> usize {
        self.blocks * self.members
    }

    /// Addresses in all networks but the broad one.
    pub const fn mappings(&self) -> usize {
        self.vns() * self.members * self.each
    }

    /// Mappings that one edge knows.
    pub const fn known(&self) -> usize {
        VNS_PER_EDGE * self.members * self.each
    }

    /// The `n`th address of all but the broad network's; those of one block are beside one another.
    pub const fn station(&self, n: usize) -> Station {
        let of_vn = self.members * self.each;
        let (vn, inner) = (n / of_vn, n % of_vn);
        let edge = vn / VNS_PER_EDGE * self.members + inner / self.each;
        Station {
            vn,
            edge,
            number: n,
            inner,
        }
    }

    /// All addresses of these blocks.
    pub fn stations(&self, blocks: std::ops::Range<usize>) -> impl Iterator<Item = Station> {
        let of_block = VNS_PER_EDGE * self.members * self.each;
        (blocks.start * of_block..blocks.end * of_block).map(|n| self.station(n))
    }

    /// The address of the `n`th member of the broad network.
    pub const fn broad_station(&self, n: usize) -> Station {
        Station {
            vn: self.vns(),
            edge: self.members + n,
            number: self.mappings() + n,
            inner: n,
        }
    }

    /// Networks of an edge.
    pub fn vns_of(&self, edge: usize) -> std::ops::Range<usize> {
        let first = edge / self.members * VNS_PER_EDGE;
        first..first + VNS_PER_EDGE
    }

    /// Declares a network.
    pub fn vn_add(&self, vn: usize) -> anyhow::Result<Change> {
        let vni = Vni::try_from(u32::try_from(vn + 1)?)?;
        let settings = VnSettings {
            vni,
            protection: Default::default(),
            lease_end: Default::default(),
            admission: Default::default(),
        };
        let vn = vn_name(vn)?;
        Ok(Change::VnAdd { vn, settings })
    }

    /// Lets an edge into a network.
    pub fn member_add(&self, vn: usize, edge: usize) -> anyhow::Result<Change> {
        let (vn, nve) = (vn_name(vn)?, edge_name(edge)?);
        Ok(Change::MemberAdd { vn, nve })
    }
}

impl Station {
    /// Its MAC address: locally administered.
    pub fn mac(&self) -> Mac {
        let [_, _, _, _, a, b, c, d] = (self.number as u64).to_be_bytes();
        Mac([2, 0, a, b, c, d])
    }

    /// One of its two IP addresses; in every network the same ones.
    pub fn ip(&self, second: bool) -> IpAddr {
        let n = 2 * self.inner as u32 + u32::from(second);
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    /// What is placed: both.
    pub fn placement_add(&self) -> anyhow::Result<Change> {
        let ips = vec![self.ip(false), self.ip(true)];
        let placement = Placement {
            mac: self.mac(),
            ips: Ips::try_from(ips)?,
            nve: edge_name(self.edge)?,
            port: port()?,
        };
        let vn = vn_name(self.vn)?;
        Ok(Change::PlacementAdd { vn, placement })
    }
}

/// Name of a network.
pub fn vn_name(vn: usize) -> anyhow::Result<VnName> {
    Ok(format!("vn-{vn}").parse()?)
}

/// Name of an edge.
pub fn edge_name(edge: usize) -> anyhow::Result<NveName> {
    Ok(format!("edge-{edge}").parse()?)
}

/// Name of an edge's port.
pub fn port() -> anyhow::Result<PortName> {
    Ok(PORT.parse()?)
}

/// Where an edge says that it is reached. Nobody dials it.
pub fn endpoint(edge: usize) -> anyhow::Result<Endpoint> {
    // RFC 2544, section C.2.2: for measurements.
    let base = Ipv4Addr::new(198, 18, 0, 1).to_bits();
    let ip = IpAddr::V4(Ipv4Addr::from_bits(base + u32::try_from(edge)?));
    Ok(Endpoint {
        tunnel_addresses: Bounded::try_from(vec![ip])?,
        control_address: SocketAddr::new(ip, 4790),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_edge_has_its_addresses_in_its_networks() {
        let overlay = Overlay::near(5000, 4000, 1_000_000, 100).expect("an overlay");
        let sizes = (overlay.edges(), overlay.vns(), overlay.mappings());
        assert_eq!(sizes, (5000, 4000, 1_000_000));
        assert_eq!(overlay.known(), 1000);
        let mut macs = BTreeSet::new();
        for station in overlay.stations(3..5) {
            assert!(overlay.vns_of(station.edge).contains(&station.vn));
            assert!((3..5).contains(&(station.edge / overlay.members)));
            assert!(macs.insert(station.mac()));
        }
        assert_eq!(macs.len(), 2 * VNS_PER_EDGE * 5 * 50);
        // The first block's edges, which are watched, are not in the broad network.
        assert_eq!(overlay.broad_station(0).edge, 5);
    }

    #[test]
    fn too_small_an_overlay_is_refused() {
        assert!(Overlay::near(10, 3, 10, 0).is_err());
        assert!(Overlay::near(10, 40, 10, 0).is_err());
        let small = Overlay::near(10, 20, 10, 1000).expect("an overlay");
        assert_eq!((small.each, small.broad), (1, 8));
    }
}

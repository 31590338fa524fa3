//! Tunnels as a worker sends into them: which SA, which way, and the outer headers as a
//! template that only lengths are written into.

use std::sync::Arc;

use arrayvec::ArrayVec;
use vswitch_net::Envelope;
use vswitch_net::ip::IpVersion;
use vswitch_net::mtu::{self, Wrapping};
use vswitch_net::template::Template;
use vswitch_vn::{PeerId, Protection, Tunnel, TunnelId};

use super::command::{Path, WorkerId};
use super::demand::Demand;
use super::worker::SEAL_BATCH;

/// A constant in the dynamic range (RFC 6335, 6) for an SA or a clear tunnel, so that ECMP
/// and RSS spread SAs and learn nothing of inner headers.
pub const fn source_port(of: u32) -> u16 {
    49152 + ((of.wrapping_mul(0x9e37_79b9) >> 16) as u16 >> 2)
}

/// What a worker keeps of one tunnel.
#[derive(Default)]
pub struct TunnelState {
    /// Slot of the worker's own outbound SA.
    pub sa: Option<usize>,
    /// Who else has an outbound SA.
    pub owner: Option<WorkerId>,
    /// Its keys are made on demand.
    pub demand: Option<Demand>,
    /// Resolved outer headers.
    pub route: Option<Route>,
    /// All headers before a frame, where a tunnel is protected and its path is IPv4.
    pub envelope: Option<Envelope>,
    /// Largest inner frame; unlimited while unresolved, since the packet is dropped anyway.
    max_frame: Option<usize>,
}

/// The way out of a resolved tunnel.
#[derive(Clone)]
pub struct Route {
    /// The underlay port.
    pub underlay: u16,
    /// Outer Ethernet, IP and UDP.
    pub template: Template,
    /// Its path.
    pub path: Path,
}

/// All tunnels and the paths to their peers.
#[derive(Default)]
pub struct TunnelTable {
    tunnels: Vec<Option<Box<TunnelState>>>,
    paths: Vec<Arc<[Path]>>,
}

impl TunnelTable {
    /// The state of a tunnel.
    #[inline]
    pub fn get(&self, id: TunnelId) -> Option<&TunnelState> {
        self.tunnels.get(id.index())?.as_deref()
    }

    /// Reads what a burst will need of these tunnels, as
    /// [`SaTable::touch_outbound`](super::sas::SaTable::touch_outbound) does of SAs; their SAs.
    pub fn touch(
        &self,
        ids: impl Iterator<Item = TunnelId> + Clone,
    ) -> ArrayVec<usize, SEAL_BATCH> {
        let mut seen = 0;
        for id in ids.clone() {
            seen ^= usize::from(self.tunnels.get(id.index()).is_some_and(Option::is_some));
        }
        let mut slots = ArrayVec::new();
        for state in ids.take(SEAL_BATCH).filter_map(|id| self.get(id)) {
            slots.extend(state.sa);
            let route = state.route.as_ref();
            seen ^= route.map_or(0, |route| {
                usize::from(route.path.mtu) ^ route.template.len()
            });
        }
        std::hint::black_box(seen);
        slots
    }

    /// The state of a tunnel, made if it is new.
    pub fn entry(&mut self, id: TunnelId) -> &mut TunnelState {
        if self.tunnels.len() <= id.index() {
            self.tunnels.resize_with(id.index() + 1, || None);
        }
        self.tunnels[id.index()].get_or_insert_default()
    }

    /// What is kept of a tunnel whose keys are made on demand.
    pub fn demand(&mut self, id: TunnelId) -> Option<&mut Demand> {
        self.tunnels
            .get_mut(id.index())?
            .as_deref_mut()?
            .demand
            .as_mut()
    }

    /// Ids are below this.
    pub fn places(&self) -> usize {
        self.tunnels.len()
    }

    /// Forgets a tunnel and returns the slot of its SA.
    pub fn remove(&mut self, id: TunnelId) -> Option<usize> {
        self.tunnels.get_mut(id.index())?.take()?.sa
    }

    /// Ids of all tunnels.
    pub fn ids(&self) -> impl Iterator<Item = TunnelId> + '_ {
        self.tunnels
            .iter()
            .enumerate()
            .filter(|(_, t)| t.is_some())
            .map(|(i, _)| TunnelId(i as u32))
    }

    /// The largest inner frame that fits.
    #[inline]
    pub fn max_frame(&self, id: TunnelId) -> usize {
        self.get(id).and_then(|t| t.max_frame).unwrap_or(usize::MAX)
    }

    /// Notes a peer's next hops.
    pub fn set_paths(&mut self, peer: PeerId, paths: Arc<[Path]>) {
        if self.paths.len() <= peer.index() {
            self.paths.resize_with(peer.index() + 1, || Arc::from([]));
        }
        self.paths[peer.index()] = paths;
    }

    /// Builds the tunnel's headers anew. `key` spreads tunnels over equal paths (the SPI),
    /// `ports` are the outer UDP ports.
    pub fn refresh(&mut self, id: TunnelId, tunnel: &Tunnel, key: u32, ports: (u16, u16)) {
        let path = self.paths.get(tunnel.peer.index()).and_then(|paths| {
            let spread = (u64::from(key.wrapping_mul(0x85eb_ca6b)) * paths.len() as u64) >> 32;
            paths.get(spread as usize).cloned()
        });
        let state = self.entry(id);
        state.route = path.and_then(|path| {
            let template = Template::new(
                path.src_mac,
                path.dst_mac,
                path.src,
                path.dst,
                ports.0,
                ports.1,
            );
            Some(Route {
                underlay: path.underlay,
                template: template.ok()?,
                path,
            })
        });
        let protected = tunnel.protection != Protection::None;
        let route = state.route.as_ref().filter(|_| protected);
        state.envelope = route
            .and_then(|route| Envelope::new(&route.template, tunnel.encapsulation, tunnel.vni));
        state.max_frame = state.route.as_ref().map(|route| {
            wrapping(tunnel, IpVersion::of(route.path.dst))
                .max_inner_frame(usize::from(route.path.mtu))
        });
    }
}

/// How a tunnel wraps frames over an IP version.
pub fn wrapping(tunnel: &Tunnel, ip: IpVersion) -> Wrapping {
    Wrapping {
        ip,
        encapsulation: tunnel.encapsulation,
        protection: match tunnel.protection {
            Protection::None => mtu::Protection::None,
            Protection::Confidential | Protection::Integrity => mtu::Protection::Esp,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn source_ports_stay_in_the_dynamic_range() {
        for of in (0..u32::MAX).step_by(65_521) {
            assert!(source_port(of) >= 49152);
        }
        assert_ne!(source_port(256), source_port(257));
    }
}

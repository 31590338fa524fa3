//! The SAs of agreed keys: which workers have them, and who seals for those that have none.

use std::collections::{BTreeMap, BTreeSet};

use vswitch_sa::{Inbound, InboundConfig, IvMode, KeyMaterial, Outbound, OutboundConfig, Spi};
use vswitch_vn::TunnelId;

use super::{AgreedKey, OrderId};
use crate::datapath::command::{Command, InboundSetup, OutboundSetup, WorkerId};
use crate::datapath::source_port;
use crate::manage::config::{self, Source};
use crate::manage::edge::control::Control;

/// Packets of an agreed key's replay window: wide enough for what several queues and paths put
/// out of order at full load.
const REPLAY_WINDOW: usize = 4096;

/// Where the SAs of agreed keys are.
#[derive(Debug, Default)]
pub(in crate::manage::edge) struct Agreed {
    outbound: BTreeMap<(TunnelId, WorkerId), Spi>,
    inbound: BTreeMap<Spi, (TunnelId, WorkerId)>,
}

/// An install on its way to the workers.
#[derive(Debug)]
pub(in crate::manage::edge) struct Installing {
    /// The order's.
    pub id: OrderId,
    /// The SA's.
    pub spi: Spi,
    /// Of an outbound one: where, and what the worker sealed with before.
    place: Option<(TunnelId, WorkerId, Option<Spi>)>,
}

impl Installing {
    /// In which direction.
    pub(in crate::manage::edge) fn is_outbound(&self) -> bool {
        self.place.is_some()
    }
}

impl Agreed {
    /// A worker seals with another key.
    fn seal(&mut self, tunnel: TunnelId, worker: WorkerId, spi: Spi) -> Option<Spi> {
        self.outbound.insert((tunnel, worker), spi)
    }

    /// It does not: it has the former one, if there was one. Nothing happens if it has another by
    /// now.
    fn unseal(&mut self, (tunnel, worker): (TunnelId, WorkerId), spi: Spi, before: Option<Spi>) {
        if self.outbound(tunnel, worker) != Some(spi) {
            return;
        }
        match before {
            Some(before) => self.outbound.insert((tunnel, worker), before),
            None => self.outbound.remove(&(tunnel, worker)),
        };
    }

    /// Where an inbound key is.
    pub(super) fn inbound(&self, spi: Spi) -> Option<(TunnelId, WorkerId)> {
        self.inbound.get(&spi).copied()
    }

    /// The key that a worker seals a tunnel's packets with.
    pub(super) fn outbound(&self, tunnel: TunnelId, worker: WorkerId) -> Option<Spi> {
        self.outbound.get(&(tunnel, worker)).copied()
    }

    /// Who seals for workers without a key of their own: the first that has one.
    fn owner(&self, tunnel: TunnelId) -> Option<WorkerId> {
        let mut of_tunnel = self
            .outbound
            .range((tunnel, WorkerId::MIN)..=(tunnel, WorkerId::MAX));
        of_tunnel.next().map(|((_, worker), _)| *worker)
    }
}

impl Control {
    /// The tunnel of an agreed key, if the authority's networks have it.
    fn agreed_tunnel(&self, vn: &str, peer: &str) -> Option<TunnelId> {
        let at = self.config.vns.iter().position(|v| v.name == vn)?;
        let managed = self.config.vns.get(at)?.source == Source::Authority;
        let peer = self.config.peers.iter().position(|p| p.name == peer)?;
        let peer = config::PeerId(u32::try_from(peer).ok()?);
        let vn = config::VnId(u16::try_from(at).ok()?);
        self.plan.tunnel(vn, peer).filter(|_| managed)
    }

    fn material(&self, key: &AgreedKey) -> Result<(TunnelId, KeyMaterial), String> {
        let tunnel = self
            .agreed_tunnel(&key.vn, &key.peer)
            .ok_or_else(|| format!("{} is not on VN {} here", key.peer, key.vn))?;
        if usize::from(key.worker) >= self.members.len() {
            return Err(format!("there is no worker {}", key.worker));
        }
        let material = KeyMaterial::from_bytes(self.backend, key.algorithm, key.secret.expose())
            .map_err(|error| error.to_string())?;
        Ok((tunnel, material))
    }

    /// Has a worker seal with a key.
    pub(super) fn install_outbound(
        &mut self,
        id: OrderId,
        key: &AgreedKey,
    ) -> Result<Installing, String> {
        let (tunnel, material) = self.material(key)?;
        let mut setup = OutboundConfig::ephemeral(key.spi);
        if let Some(authority) = &self.config.authority {
            setup.limits.soft = authority.rekey_blocks.min(setup.limits.hard);
            setup.soft_sequence = authority.rekey_packets;
        }
        let sa = Outbound::new(material, setup).map_err(|error| error.to_string())?;
        let setup = OutboundSetup {
            tunnel,
            sa: Box::new(sa),
            source_port: source_port(key.spi.get()),
            low_water: 0,
        };
        let before = self.agreed.owner(tunnel);
        let former = self.agreed.seal(tunnel, key.worker, key.spi);
        let worker = usize::from(key.worker);
        self.tell(worker, Command::InstallOutbound(Box::new(setup)));
        self.tell_owner(tunnel, before);
        Ok(Installing {
            id,
            spi: key.spi,
            place: Some((tunnel, key.worker, former)),
        })
    }

    /// An install did not come about.
    pub(super) fn undo(&mut self, installing: &Installing) {
        match installing.place {
            Some((tunnel, worker, former)) => {
                let before = self.agreed.owner(tunnel);
                let place = (tunnel, worker);
                self.agreed.unseal(place, installing.spi, former);
                // Others must not hand over to a worker that has no key.
                self.tell_owner(tunnel, before);
            }
            None => self.remove_inbound(installing.spi),
        }
    }

    /// Has a worker open what was sealed with a key.
    pub(super) fn install_inbound(
        &mut self,
        id: OrderId,
        key: &AgreedKey,
    ) -> Result<Installing, String> {
        let (tunnel, material) = self.material(key)?;
        if self.agreed.inbound.contains_key(&key.spi) || self.is_manual(key.spi) {
            return Err(format!("SPI {} is in use", key.spi));
        }
        let setup = InboundConfig {
            spi: key.spi,
            esn: true,
            iv_mode: IvMode::EqualsEsn,
            window: REPLAY_WINDOW,
            floor: 0,
        };
        let sa = Inbound::new(material, setup).map_err(|error| error.to_string())?;
        let setup = InboundSetup {
            tunnel,
            sa: Box::new(sa),
            floor: None,
        };
        self.agreed.inbound.insert(key.spi, (tunnel, key.worker));
        let worker = usize::from(key.worker);
        self.tell(worker, Command::InstallInbound(Box::new(setup)));
        let (spi, owner) = (key.spi, key.worker);
        self.tell_all(|_| Command::InboundOwner(spi, Some(owner)));
        let place = None;
        Ok(Installing { id, spi, place })
    }

    fn is_manual(&self, spi: Spi) -> bool {
        let mut sas = self.config.security_associations.iter();
        sas.any(|sa| sa.direction == config::Direction::Inbound && sa.spi == spi)
    }

    /// Has a worker seal no more, unless it has another key by now.
    pub(super) fn remove_outbound(
        &mut self,
        (vn, peer): (&str, &str),
        worker: WorkerId,
        spi: Spi,
        limit: bool,
    ) {
        let Some(tunnel) = self.agreed_tunnel(vn, peer) else {
            // It went with the tunnel.
            return;
        };
        if self.agreed.outbound(tunnel, worker) != Some(spi) {
            return;
        }
        let before = self.agreed.owner(tunnel);
        self.agreed.outbound.remove(&(tunnel, worker));
        // Others must not hand over to a worker that has no key.
        self.tell_owner(tunnel, before);
        self.tell(usize::from(worker), Command::RemoveOutbound(tunnel));
        if limit {
            self.tell(usize::from(worker), Command::Limit(tunnel));
        }
    }

    fn tell_owner(&self, tunnel: TunnelId, before: Option<WorkerId>) {
        let owner = self.agreed.owner(tunnel);
        if owner != before {
            self.tell_all(|_| Command::OutboundOwner(tunnel, owner));
        }
    }

    /// Has a worker open no more.
    pub(super) fn remove_inbound(&mut self, spi: Spi) {
        if let Some((_, worker)) = self.agreed.inbound.remove(&spi) {
            self.tell_all(|other| match other == worker {
                true => Command::RemoveInbound(spi),
                false => Command::InboundOwner(spi, None),
            });
        }
    }

    /// The keys of tunnels that are gone: what seals went with them, what opens goes now.
    pub(in crate::manage::edge) fn forget_keys_of(&mut self, gone: &BTreeSet<TunnelId>) {
        self.agreed.outbound.retain(|(t, _), _| !gone.contains(t));
        let of_gone = |(tunnel, _): &(TunnelId, WorkerId)| gone.contains(tunnel);
        let inbound = self.agreed.inbound.iter();
        let spis: Vec<Spi> = inbound
            .filter(|(_, place)| of_gone(place))
            .map(|(spi, _)| *spi)
            .collect();
        for spi in spis {
            self.remove_inbound(spi);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spi(n: u32) -> Spi {
        Spi::new(n).unwrap()
    }

    /// Whom workers without a key are told to hand over to.
    #[test]
    fn the_first_worker_with_a_key_seals_for_those_without() {
        let (tunnel, other) = (TunnelId(3), TunnelId(4));
        let mut agreed = Agreed::default();
        assert_eq!(agreed.owner(tunnel), None);
        assert_eq!(agreed.seal(tunnel, 2, spi(300)), None);
        agreed.seal(other, 0, spi(400));
        assert_eq!(agreed.owner(tunnel), Some(2));
        agreed.seal(tunnel, 1, spi(301));
        assert_eq!(agreed.owner(tunnel), Some(1));
        agreed.unseal((tunnel, 1), spi(301), None);
        assert_eq!(agreed.owner(tunnel), Some(2));
    }

    /// A worker that refused a key goes on with the one before.
    #[test]
    fn an_install_that_did_not_come_about_leaves_what_was() {
        let tunnel = TunnelId(3);
        let mut agreed = Agreed::default();
        agreed.seal(tunnel, 0, spi(300));
        let before = agreed.seal(tunnel, 0, spi(301));
        agreed.unseal((tunnel, 0), spi(301), before);
        assert_eq!(agreed.outbound(tunnel, 0), Some(spi(300)));
        // Told late: it has another by now.
        agreed.unseal((tunnel, 0), spi(301), None);
        assert_eq!(agreed.outbound(tunnel, 0), Some(spi(300)));
    }
}

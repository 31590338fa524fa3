//! SAs of the configuration on their way to the workers: made when the switch starts and when
//! its configuration changes, with what is kept of their keys.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::control::Control;
use super::floors::Floor;
use super::keys;
use super::plan::Plan;
use crate::datapath::command::{Command, InboundSetup, OutboundSetup};
use crate::datapath::source_port;
use crate::dpdk::mapped::MappedCounters;
use crate::manage::config::{Config, SecurityAssociation};

/// An inbound SA whose key another SA had until now, and where its floor is.
pub(super) struct Later {
    pub sa: SecurityAssociation,
    pub floor: Arc<MappedCounters>,
}

impl Control {
    /// An outbound SA of the configuration, its first numbers reserved.
    pub(super) fn outbound_setup(
        &mut self,
        config: &Config,
        plan: &Plan,
        sa: &SecurityAssociation,
    ) -> Result<Option<Box<OutboundSetup>>, keys::KeyError> {
        let peer = config.peers.get(sa.peer.index());
        let (Some(tunnel), Some(peer)) = (plan.tunnel(sa.vn, sa.peer), peer) else {
            return Ok(None);
        };
        let outbound = keys::outbound(&mut self.state, sa, self.backend)?;
        Ok(Some(Box::new(OutboundSetup {
            tunnel,
            low_water: outbound.reservation_left() / 2,
            source_port: peer
                .esp_source_port
                .unwrap_or_else(|| source_port(sa.spi.get())),
            sa: outbound,
        })))
    }

    /// An inbound SA of the configuration, and what is to be kept of it.
    pub(super) fn inbound_setup(
        &mut self,
        config: &Config,
        plan: &Plan,
        sa: &SecurityAssociation,
    ) -> Result<Option<(Box<InboundSetup>, Floor)>, keys::KeyError> {
        let peer = config.peers.get(sa.peer.index());
        let (Some(tunnel), Some(peer)) = (plan.tunnel(sa.vn, sa.peer), peer) else {
            return Ok(None);
        };
        let (inbound, floor) = keys::inbound(&mut self.state, sa, peer, self.backend)?;
        let setup = Box::new(InboundSetup {
            tunnel,
            sa: inbound,
            floor: Some((Arc::clone(&floor), 0)),
        });
        Ok(Some((setup, Floor::new(sa.key.fingerprint(), floor))))
    }

    /// The former SA is gone everywhere: its floor does not move any more.
    pub(super) fn install_later(&mut self, later: Later) {
        let (config, plan) = (Arc::clone(&self.config), self.plan.clone());
        let Later { sa, floor } = later;
        match self.inbound_setup(&config, &plan, &sa) {
            Ok(Some((setup, kept))) => {
                self.floors.retain(|f| f.key() != kept.key());
                self.floors.push(kept);
                self.tell(usize::from(sa.worker), Command::InstallInbound(setup));
                self.tell_all(|_| Command::InboundOwner(sa.spi, Some(sa.worker)));
            }
            Ok(None) => {}
            Err(error) => tracing::error!(
                spi = %sa.spi, %error,
                "an inbound SA could be made before the change and not after: remove it and add \
                 it again"
            ),
        }
        // Held until here, so that the table is the same one.
        drop(floor);
    }

    /// Floors of SAs that are gone are written for the last time; new ones are kept.
    pub(super) fn keep_floors(&mut self, new: Vec<Floor>) {
        let sas = self.config.security_associations.iter();
        let wanted: BTreeSet<_> = sas.map(|sa| sa.key.fingerprint()).collect();
        for floor in self.floors.iter().filter(|f| !wanted.contains(&f.key())) {
            if let Err(error) = floor.sync() {
                tracing::error!(%error, "the replay floor of a removed SA is not on the disk");
            }
        }
        self.floors.retain(|floor| wanted.contains(&floor.key()));
        self.floors.extend(new);
    }
}

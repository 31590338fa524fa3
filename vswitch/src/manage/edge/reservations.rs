//! Manual keys while the switch runs: more sequence numbers when a worker's run low, and
//! again every second while the disk refuses them.

use vswitch_sa::Spi;
use vswitch_vn::TunnelId;

use super::control::Control;
use super::keys::KeyError;
use super::plan::Plan;
use crate::datapath::command::{Command, WorkerId};
use crate::manage::config::{Direction, SecurityAssociation};

/// A worker's outbound SA whose sequence numbers run low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Low {
    /// Who asks.
    pub worker: WorkerId,
    /// The SA's tunnel.
    pub tunnel: TunnelId,
    /// Its SPI; the receiver chose it, so that two peers may have chosen the same.
    pub spi: Spi,
}

/// A reservation that failed.
pub(super) struct Unreserved {
    low: Low,
    /// What was logged.
    reason: String,
}

impl Control {
    /// Reserves more sequence numbers and tells the worker, now or, if it fails, at the next
    /// [`Self::retry_reservations`]: the worker does not ask twice.
    pub(super) fn reserve(&mut self, low: Low) {
        if self.unreserved.iter().any(|failed| failed.low == low) {
            return;
        }
        if let Err(error) = self.try_reserve(low) {
            let reason = error.to_string();
            self.log_failure(low, &error, &reason);
            if worth_retrying(&error) {
                self.unreserved.push(Unreserved { low, reason });
            }
        }
    }

    /// Tries the failed ones again; logs what changes and not every attempt.
    pub(super) fn retry_reservations(&mut self) {
        for mut failed in std::mem::take(&mut self.unreserved) {
            match self.try_reserve(failed.low) {
                Ok(()) => {
                    let (vn, peer) = self.tunnel_names(failed.low.tunnel);
                    let spi = failed.low.spi;
                    tracing::info!(%spi, vn, peer, "sequence numbers are reserved again");
                }
                Err(error) => {
                    let reason = error.to_string();
                    if reason != failed.reason {
                        self.log_failure(failed.low, &error, &reason);
                        failed.reason = reason;
                    }
                    if worth_retrying(&error) {
                        self.unreserved.push(failed);
                    }
                }
            }
        }
    }

    fn try_reserve(&mut self, low: Low) -> Result<(), KeyError> {
        let Some(sa) = wanting(&self.config.security_associations, &self.plan, low) else {
            // No such SA any more: nobody waits for the numbers.
            return Ok(());
        };
        let key = sa.key.fingerprint();
        let until = self.state.reserve(low.spi, key, sa.esn)?.until;
        let tunnel = low.tunnel;
        self.tell(
            usize::from(low.worker),
            Command::Reserved { tunnel, key, until },
        );
        Ok(())
    }

    fn log_failure(&self, low: Low, error: &KeyError, reason: &str) {
        let (vn, peer) = self.tunnel_names(low.tunnel);
        let spi = low.spi;
        if worth_retrying(error) {
            tracing::error!(
                %spi, vn, peer, error = reason,
                "no sequence numbers reserved: retried every second; when the reserved ones \
                 are spent, the tunnel's packets are dropped"
            );
        } else {
            tracing::error!(%spi, vn, peer, error = reason, "no sequence numbers reserved");
        }
    }
}

/// Spent numbers do not come back.
fn worth_retrying(error: &KeyError) -> bool {
    !matches!(error, KeyError::Exhausted(_))
}

/// The SA that asks. All four must match: the tunnel, for peers choose SPIs independently
/// and one peer's key extended for another's would use that key's nonces twice.
fn wanting<'a>(
    sas: &'a [SecurityAssociation],
    plan: &Plan,
    low: Low,
) -> Option<&'a SecurityAssociation> {
    sas.iter().find(|sa| {
        sa.direction == Direction::Outbound
            && sa.worker == low.worker
            && sa.spi == low.spi
            && plan.tunnel(sa.vn, sa.peer) == Some(low.tunnel)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::manage::config::Config;

    const CONFIGURATION: &str = r#"
nve: {name: a}
eal: {memory: no-huge, memory-mb: 192}
workers: {cores: [0, 0], idle: yield}
underlay:
  ports:
    - name: up0
      device: net_ring_up0
      addresses: ["192.0.2.1/24"]
peers:
  - {name: b, addresses: ["192.0.2.2"]}
  - {name: c, addresses: ["192.0.2.3"]}
vns:
  - {name: blue, vni: 100, protection: confidential, edges: [b, c]}
security-associations:
  - {vn: blue, peer: b, direction: outbound, worker: 1, spi: 4096, algorithm: aes-128-gcm, key-file: 1.key}
  - {vn: blue, peer: c, direction: outbound, worker: 1, spi: 4096, algorithm: aes-128-gcm, key-file: 2.key}
  - {vn: blue, peer: b, direction: inbound, worker: 1, spi: 4096, algorithm: aes-128-gcm, key-file: 3.key}
  - {vn: blue, peer: c, direction: inbound, worker: 1, spi: 4097, algorithm: aes-128-gcm, key-file: 4.key}
"#;

    #[test]
    fn peers_with_one_spi_get_numbers_of_their_own_keys() {
        let dir = tempfile::tempdir().unwrap();
        for i in 1..=4 {
            let file = dir.path().join(format!("{i}.key"));
            fs::write(&file, format!("{}\n", format!("0{i}").repeat(20))).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        }
        let config = Config::parse(CONFIGURATION, dir.path()).unwrap();
        let plan = Plan::first(&config).unwrap();
        let sas = &config.security_associations;
        let low = |worker, tunnel, spi| Low {
            worker,
            tunnel: TunnelId(tunnel),
            spi: Spi::new(spi).unwrap(),
        };
        for peer in 0..2 {
            let sa = wanting(sas, &plan, low(1, peer, 4096)).unwrap();
            let own = &sas[peer as usize];
            assert_eq!(sa.key.fingerprint(), own.key.fingerprint());
        }
        assert_ne!(sas[0].key.fingerprint(), sas[1].key.fingerprint());
        for nobody in [low(0, 0, 4096), low(1, 2, 4096), low(1, 0, 4098)] {
            assert!(wanting(sas, &plan, nobody).is_none());
        }
        // That SPI is an inbound SA's.
        assert!(wanting(sas, &plan, low(1, 1, 4097)).is_none());
    }
}

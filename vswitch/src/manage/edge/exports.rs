//! Keys given away to somebody who decrypts with Wireshark, and what follows: a manual key
//! cannot be renewed from here, so it is marked, durably and by the key itself, and the
//! operator reminded at every start and every hour until another key is in its place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use vswitch_sa::{Fingerprint, Spi};
use vswitch_vn::TunnelId;

use super::control::Control;
use super::keys::KeyError;
use super::state::StateDir;
use crate::manage::config::{Config, Direction, SecurityAssociation};
use crate::manage::keys::{Asker, ExportError, KeySelection, KeyTable, SaKey, encrypts};
use crate::manage::security::key_exported;

/// Name of the list in the state directory: a key's fingerprint and a time in each line.
const FILE: &str = "exported-keys";
/// How often the operator is reminded.
const REMINDER: Duration = Duration::from_secs(3600);

/// Which keys were ever given away, and when first. It is not forgotten of a key that is no
/// longer in use, for it may come back.
pub(super) struct Exports {
    since: BTreeMap<Fingerprint, SystemTime>,
    reminded: Option<Instant>,
}

impl Exports {
    /// What the state directory knows.
    pub(super) fn load(state: &StateDir) -> Result<Self, KeyError> {
        let path = path(state);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => {
                let doing = "read the list of exported keys";
                return Err(KeyError::Io {
                    path,
                    doing,
                    source,
                });
            }
        };
        let mut since = BTreeMap::new();
        for line in text.lines() {
            match parse(line) {
                Some((key, at)) => since.insert(key, at),
                None => {
                    tracing::error!(
                        path = %path.display(), line,
                        "a line of the list of exported keys is damaged: if the key it named is \
                         still in use, nothing else says that it was exported"
                    );
                    continue;
                }
            };
        }
        Ok(Exports {
            since,
            reminded: None,
        })
    }

    /// When the key was first given away.
    pub(super) fn since(&self, key: Fingerprint) -> Option<SystemTime> {
        self.since.get(&key).copied()
    }

    /// Marks keys. When this returns, the marks are on the disk; if it fails, no key may be
    /// given away.
    fn mark(
        &mut self,
        state: &StateDir,
        keys: impl Iterator<Item = Fingerprint>,
        now: SystemTime,
    ) -> Result<(), KeyError> {
        let mut since = self.since.clone();
        for key in keys {
            since.entry(key).or_insert(now);
        }
        if since != self.since {
            let text: String = since.iter().map(|(key, at)| line(*key, *at)).collect();
            state.write_durably(&path(state), &text)?;
            self.since = since;
        }
        Ok(())
    }
}

fn path(state: &StateDir) -> PathBuf {
    state.path().join(FILE)
}

fn line(key: Fingerprint, at: SystemTime) -> String {
    format!("{key} {}\n", humantime::format_rfc3339_seconds(at))
}

fn parse(line: &str) -> Option<(Fingerprint, SystemTime)> {
    let (key, at) = line.split_once(' ')?;
    Some((key.parse().ok()?, humantime::parse_rfc3339(at).ok()?))
}

impl Control {
    /// Gives keys away, or says why not; either is a security event.
    pub(super) fn export_keys(
        &mut self,
        who: Asker,
        which: &KeySelection,
    ) -> Result<KeyTable, ExportError> {
        let given = self.try_export(who, which);
        if let Err(error) = &given {
            tracing::warn!(
                target: "security", kind = "key-export", reason = "key-export-refused",
                count = 1, suppressed = 0,
                uid = who.uid, gid = who.gid, pid = who.pid, %error,
                "an export of keys was refused"
            );
        }
        given
    }

    fn try_export(&mut self, who: Asker, which: &KeySelection) -> Result<KeyTable, ExportError> {
        if !self.config.allow_key_export {
            let file = self.config.file().display().to_string();
            return Err(ExportError::NotAllowed(file));
        }
        let daemon = rustix::process::geteuid().as_raw();
        if who.uid != 0 && who.uid != daemon {
            let uid = who.uid;
            return Err(ExportError::NotYou { uid, daemon });
        }
        let chosen = select(&self.config, which)?;
        let keys = chosen.iter().map(|sa| sa.key.fingerprint());
        self.exports
            .mark(&self.state, keys, SystemTime::now())
            .map_err(ExportError::Mark)?;
        let spis: Vec<String> = chosen.iter().map(|sa| describe(&self.config, sa)).collect();
        tracing::warn!(
            event = "key-export",
            uid = who.uid,
            gid = who.gid,
            pid = who.pid,
            sas = spis.join(", "),
            "KEYS WERE EXPORTED: replace them at both ends"
        );
        for sa in &chosen {
            let (vn, peer) = names(&self.config, sa);
            key_exported(&who.to_string(), vn, peer, sa.spi.get());
        }
        let table: Vec<SaKey> = chosen
            .iter()
            .flat_map(|sa| rows(&self.config, sa))
            .collect();
        Ok(KeyTable::wireshark(&table))
    }

    /// SAs whose keys were given away, by tunnel, whether outbound, and SPI; and when first.
    pub(super) fn exported(&self) -> BTreeMap<(TunnelId, bool, u32), SystemTime> {
        let sas = self.config.security_associations.iter();
        sas.filter_map(|sa| {
            let at = self.exports.since(sa.key.fingerprint())?;
            let tunnel = self.plan.tunnel(sa.vn, sa.peer)?;
            let outbound = sa.direction == Direction::Outbound;
            Some(((tunnel, outbound, sa.spi.get()), at))
        })
        .collect()
    }

    /// Once an hour, first at the start: which keys are due to be replaced.
    pub(super) fn remind_of_exports(&mut self) {
        let due = |last: Instant| last.elapsed() >= REMINDER;
        if !self.exports.reminded.is_none_or(due) {
            return;
        }
        self.exports.reminded = Some(Instant::now());
        for sa in &self.config.security_associations {
            if let Some(at) = self.exports.since(sa.key.fingerprint()) {
                let (spi, at) = (sa.spi, humantime::format_rfc3339_seconds(at));
                let file = sa.key.file().display();
                tracing::warn!(
                    %spi, sa = describe(&self.config, sa), exported = %at, key_file = %file,
                    "REKEY DUE: this key was exported; replace it at both ends"
                );
            }
        }
    }
}

/// The associations whose keys decrypt something.
fn select<'a>(
    config: &'a Config,
    which: &KeySelection,
) -> Result<Vec<&'a SecurityAssociation>, ExportError> {
    let vn = match &which.vn {
        Some(name) => match config.vns.iter().position(|vn| vn.name == *name) {
            None => return Err(ExportError::UnknownVn(name.clone())),
            found => found,
        },
        None => None,
    };
    let peer = match &which.peer {
        Some(name) => match config.peers.iter().position(|peer| peer.name == *name) {
            None => return Err(ExportError::UnknownPeer(name.clone())),
            found => found,
        },
        None => None,
    };
    let chosen: Vec<_> = config
        .security_associations
        .iter()
        .filter(|sa| vn.is_none_or(|vn| sa.vn.index() == vn))
        .filter(|sa| peer.is_none_or(|peer| sa.peer.index() == peer))
        .filter(|sa| encrypts(sa.algorithm))
        .collect();
    match chosen.is_empty() {
        true => Err(ExportError::Nothing(which.clone())),
        false => Ok(chosen),
    }
}

/// Names of an SA's network and peer.
fn names<'a>(config: &'a Config, sa: &SecurityAssociation) -> (&'a str, &'a str) {
    let vn = config.vns.get(sa.vn.index()).map_or("?", |vn| &vn.name);
    let peer = config.peers.get(sa.peer.index());
    (vn, peer.map_or("?", |peer| &peer.name))
}

/// An association as a person knows it.
fn describe(config: &Config, sa: &SecurityAssociation) -> String {
    let (vn, peer) = names(config, sa);
    let (from, to) = match sa.direction {
        Direction::Outbound => (config.name.as_str(), peer),
        Direction::Inbound => (peer, config.name.as_str()),
    };
    let spi: Spi = sa.spi;
    format!("{vn} {from}->{to} {spi}")
}

/// A row for each pair of endpoints between which its packets may go.
fn rows<'a>(config: &'a Config, sa: &'a SecurityAssociation) -> Vec<SaKey<'a>> {
    let remote: &[IpAddr] = config
        .peers
        .get(sa.peer.index())
        .map_or(&[], |peer| &peer.addresses);
    let pairs = config.underlay.local.iter().flat_map(|local| {
        remote
            .iter()
            .filter(|remote| remote.is_ipv4() == local.is_ipv4())
            .map(|remote| (*local, *remote))
    });
    pairs
        .map(|(local, remote)| {
            let (src, dst) = match sa.direction {
                Direction::Outbound => (local, remote),
                Direction::Inbound => (remote, local),
            };
            SaKey {
                spi: sa.spi,
                src,
                dst,
                key: &sa.key,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use vswitch_sa::{Algorithm, KeyMaterial};

    use super::*;

    fn key(byte: u8) -> Fingerprint {
        KeyMaterial::from_bytes(vswitch_aead::portable(), Algorithm::Aes128Gcm, &[byte; 20])
            .unwrap()
            .fingerprint()
    }

    #[test]
    fn marks_survive_a_restart_and_keep_their_first_time() {
        let dir = tempfile::tempdir().unwrap();
        let at =
            |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + seconds);
        {
            let state = StateDir::open(dir.path()).unwrap();
            let mut exports = Exports::load(&state).unwrap();
            assert_eq!(exports.since(key(1)), None);
            exports.mark(&state, [key(1)].into_iter(), at(0)).unwrap();
            exports
                .mark(&state, [key(1), key(2)].into_iter(), at(60))
                .unwrap();
        }
        let state = StateDir::open(dir.path()).unwrap();
        let exports = Exports::load(&state).unwrap();
        assert_eq!(exports.since(key(1)), Some(at(0)));
        assert_eq!(exports.since(key(2)), Some(at(60)));
        assert_eq!(exports.since(key(3)), None);
    }

    #[test]
    fn a_damaged_line_costs_no_other_mark_and_no_start() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        let mut exports = Exports::load(&state).unwrap();
        exports
            .mark(&state, [key(1), key(2)].into_iter(), now)
            .unwrap();
        let text = fs::read_to_string(path(&state)).unwrap();
        fs::write(
            path(&state),
            format!("rubbish\n{}", &text[..text.len() - 9]),
        )
        .unwrap();
        let exports = Exports::load(&state).unwrap();
        assert_eq!(exports.since.len(), 1, "{text}");
        // A list that cannot be read at all is not taken for an empty one.
        fs::write(path(&state), [0xff, 0xfe]).unwrap();
        assert!(matches!(Exports::load(&state), Err(KeyError::Io { .. })));
    }

    #[test]
    fn what_cannot_be_recorded_is_not_marked() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("state")).unwrap();
        let mut exports = Exports::load(&state).unwrap();
        fs::remove_dir_all(dir.path().join("state")).unwrap();
        let marked = exports.mark(&state, [key(1)].into_iter(), SystemTime::now());
        assert!(matches!(marked, Err(KeyError::Io { .. })));
        assert_eq!(exports.since(key(1)), None);
    }
}

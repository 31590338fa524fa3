//! Records and their keys. A key is a path, so that a store can list what belongs together; a value
//! is one byte of format and the record in `postcard`.

use core::fmt;
use std::net::IpAddr;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use vswitch_control::message::ima::LogId;
use vswitch_control::message::operator::{AuditId, Change, Places, Text};
use vswitch_control::message::overlay::{Endpoint, Ips, VnSettings, Vni};
use vswitch_control::types::{
    BootId, Epoch, Generation, Mac, NveName, OperatorName, PortName, Version, VnName,
};

/// Format of values: their first byte.
pub const FORMAT: u8 = 1;

/// Where a record is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A VN as declared.
    Vn(VnName),
    /// Which VN has a VNI.
    Vni(Vni),
    /// A VN's counters; they outlive the declaration until all its records are gone.
    Clock(VnName),
    /// An edge that may join a VN.
    Member(VnName, NveName),
    /// An edge that has.
    Joined(VnName, NveName),
    /// What belongs where.
    Placement(VnName, Mac),
    /// What is where.
    Mapping(VnName, Mac),
    /// An edge with a lease.
    Edge(NveName),
    /// An edge without rights.
    Revoked(NveName),
    /// What an operator did. The newest sorts first.
    Audit(AuditId),
    /// What is declared of an edge.
    Declared(NveName),
    /// Which edge has a tunnel address, connected or not.
    Claim(IpAddr),
    /// An operator without rights.
    Operator(OperatorName),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mac = |mac: &Mac| {
            u64::from_be_bytes([
                0, 0, mac.0[0], mac.0[1], mac.0[2], mac.0[3], mac.0[4], mac.0[5],
            ])
        };
        match self {
            Self::Vn(vn) => write!(f, "vn/{vn}"),
            Self::Vni(vni) => write!(f, "vni/{:06x}", vni.get()),
            Self::Clock(vn) => write!(f, "clock/{vn}"),
            Self::Member(vn, nve) => write!(f, "member/{vn}/{nve}"),
            Self::Joined(vn, nve) => write!(f, "joined/{vn}/{nve}"),
            Self::Placement(vn, address) => write!(f, "placement/{vn}/{:012x}", mac(address)),
            Self::Mapping(vn, address) => write!(f, "mapping/{vn}/{:012x}", mac(address)),
            Self::Edge(nve) => write!(f, "edge/{nve}"),
            Self::Revoked(nve) => write!(f, "revoked/{nve}"),
            Self::Audit(id) => write!(f, "audit/{:016x}-{:016x}", !id.at, !id.tie),
            Self::Declared(nve) => write!(f, "declared/{nve}"),
            Self::Claim(address) => write!(f, "claim/{address}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
        }
    }
}

/// Why something in the store is no record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// A key of another program, or of a later version of this one.
    #[error("{0:?} is no key of a record")]
    Key(String),
    /// A value that is none.
    #[error("the record {key}: {why}")]
    Value {
        /// Where.
        key: String,
        /// Why.
        why: String,
    },
}

impl Key {
    /// The key that `path` is.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(path: &str) -> Result<Self, RecordError> {
        let mut parts = path.split('/');
        let parts = [parts.next(), parts.next(), parts.next(), parts.next()];
        let key = match parts {
            [Some("vn"), Some(vn), None, _] => vn.parse().ok().map(Self::Vn),
            [Some("clock"), Some(vn), None, _] => vn.parse().ok().map(Self::Clock),
            [Some("vni"), Some(vni), None, _] => {
                let vni = hex(vni, 6).and_then(|vni| u32::try_from(vni).ok());
                vni.and_then(|vni| Vni::try_from(vni).ok()).map(Self::Vni)
            }
            [Some("edge"), Some(nve), None, _] => nve.parse().ok().map(Self::Edge),
            [Some("revoked"), Some(nve), None, _] => nve.parse().ok().map(Self::Revoked),
            [Some("member"), Some(vn), Some(nve), None] => vn
                .parse()
                .ok()
                .zip(nve.parse().ok())
                .map(|(vn, nve)| Self::Member(vn, nve)),
            [Some("joined"), Some(vn), Some(nve), None] => vn
                .parse()
                .ok()
                .zip(nve.parse().ok())
                .map(|(vn, nve)| Self::Joined(vn, nve)),
            [Some("placement"), Some(vn), Some(address), None] => vn
                .parse()
                .ok()
                .zip(mac(address))
                .map(|(vn, mac)| Self::Placement(vn, mac)),
            [Some("mapping"), Some(vn), Some(address), None] => vn
                .parse()
                .ok()
                .zip(mac(address))
                .map(|(vn, mac)| Self::Mapping(vn, mac)),
            [Some("declared"), Some(nve), None, _] => nve.parse().ok().map(Self::Declared),
            [Some("operator"), Some(name), None, _] => name.parse().ok().map(Self::Operator),
            [Some("claim"), Some(text), None, _] => {
                let address = text.parse().ok();
                // One address has one key.
                let address = address.filter(|address: &IpAddr| address.to_string() == text);
                address.map(Self::Claim)
            }
            [Some("audit"), Some(id), None, _] => id.split_once('-').and_then(|(at, tie)| {
                let (at, tie) = (hex(at, 16)?, hex(tie, 16)?);
                Some(Self::Audit(AuditId { at: !at, tie: !tie }))
            }),
            _ => None,
        };
        key.ok_or_else(|| RecordError::Key(path.chars().take(200).collect()))
    }
}

fn hex(digits: &str, len: usize) -> Option<u64> {
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (digits.len() == len && digits.bytes().all(lower))
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

fn mac(digits: &str) -> Option<Mac> {
    let [_, _, a, b, c, d, e, f] = hex(digits, 12)?.to_be_bytes();
    Some(Mac([a, b, c, d, e, f]))
}

/// A VN as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VnRecord {
    /// What is the same for all members.
    pub settings: VnSettings,
    /// Which history its versions belong to.
    pub log: LogId,
}

/// A VN's counters: written with everything that members are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Of its log.
    pub version: Version,
    /// Of its membership.
    pub epoch: Epoch,
}

/// An edge that has joined a VN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// The version at which that was told.
    pub since: Version,
}

/// What belongs where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// IP addresses.
    pub ips: Ips,
    /// The edge.
    pub nve: NveName,
    /// Its port.
    pub port: PortName,
}

/// What is where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// IP addresses.
    pub ips: Ips,
    /// The edge.
    pub nve: NveName,
    /// Its port.
    pub port: PortName,
    /// The version that made it.
    pub generation: Generation,
}

/// An edge with a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeRecord {
    /// Its latest run; the one before, until that one's VNs are left that the latest has not joined.
    pub boot: BootId,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// Grows whenever the lease is renewed: the time of day in milliseconds since 1970, or one more than
    /// before if that is not later. Each server counts the lease by its own clock from when it saw the
    /// number change, so that no clock that is set ends or prolongs one; what it is tells a server that
    /// starts how old it is, about.
    pub renewals: u64,
}

/// An edge without rights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    /// Which operator said so.
    pub by: Text,
    /// Why.
    pub reason: Text,
}

/// Which edge has a tunnel address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The edge.
    pub nve: NveName,
    /// Whether an operator said so; else the edge was the first to say so.
    pub declared: bool,
}

/// What an operator did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Which operator.
    pub who: Text,
    /// What.
    pub change: Change,
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// Of [`Key::Vn`].
    Vn(VnRecord),
    /// Of [`Key::Vni`].
    Vni(VnName),
    /// Of [`Key::Clock`].
    Clock(Clock),
    /// Of [`Key::Member`]: that it is there says it all.
    Member,
    /// Of [`Key::Joined`].
    Joined(Joined),
    /// Of [`Key::Placement`].
    Placed(Placed),
    /// Of [`Key::Mapping`].
    Mapping(MappingRecord),
    /// Of [`Key::Edge`].
    Edge(EdgeRecord),
    /// Of [`Key::Revoked`].
    Revoked(Revoked),
    /// Of [`Key::Audit`].
    Audit(Audit),
    /// Of [`Key::Declared`].
    Declared(Places),
    /// Of [`Key::Claim`].
    Claim(Claim),
    /// Of [`Key::Operator`].
    Operator(Revoked),
    /// Of any key: what is stored there is no record of this program. Only read, never written.
    Unreadable,
}

/// A value and nothing behind it: what is stored is what was written.
fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, postcard::Error> {
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

impl Record {
    /// As it is stored.
    ///
    /// # Errors
    /// The encoder failed.
    pub fn encode(&self, key: &Key) -> Result<Vec<u8>, RecordError> {
        let start = vec![FORMAT];
        let encoded = match self {
            Self::Vn(record) => postcard::to_extend(record, start),
            Self::Vni(record) => postcard::to_extend(record, start),
            Self::Clock(record) => postcard::to_extend(record, start),
            Self::Member => Ok(start),
            Self::Joined(record) => postcard::to_extend(record, start),
            Self::Placed(record) => postcard::to_extend(record, start),
            Self::Mapping(record) => postcard::to_extend(record, start),
            Self::Edge(record) => postcard::to_extend(record, start),
            Self::Revoked(record) => postcard::to_extend(record, start),
            Self::Audit(record) => postcard::to_extend(record, start),
            Self::Declared(record) => postcard::to_extend(record, start),
            Self::Claim(record) => postcard::to_extend(record, start),
            Self::Operator(record) => postcard::to_extend(record, start),
            Self::Unreadable => {
                return Err(RecordError::Value {
                    key: key.to_string(),
                    why: "not read, so not to be written".to_owned(),
                });
            }
        };
        encoded.map_err(|why| RecordError::Value {
            key: key.to_string(),
            why: why.to_string(),
        })
    }

    /// What is stored at `key`.
    ///
    /// # Errors
    /// Another format, or no record of the kind that `key` has.
    pub fn decode(key: &Key, bytes: &[u8]) -> Result<Self, RecordError> {
        let wrong = |why: String| RecordError::Value {
            key: key.to_string(),
            why,
        };
        let Some((&FORMAT, body)) = bytes.split_first() else {
            return Err(wrong("of another format".to_owned()));
        };
        let decoded = match key {
            Key::Vn(_) => whole(body).map(Self::Vn),
            Key::Vni(_) => whole(body).map(Self::Vni),
            Key::Clock(_) => whole(body).map(Self::Clock),
            Key::Member(..) => whole(body).map(|()| Self::Member),
            Key::Joined(..) => whole(body).map(Self::Joined),
            Key::Placement(..) => whole(body).map(Self::Placed),
            Key::Mapping(..) => whole(body).map(Self::Mapping),
            Key::Edge(_) => whole(body).map(Self::Edge),
            Key::Revoked(_) => whole(body).map(Self::Revoked),
            Key::Audit(_) => whole(body).map(Self::Audit),
            Key::Declared(_) => whole(body).map(Self::Declared),
            Key::Claim(_) => whole(body).map(Self::Claim),
            Key::Operator(_) => whole(body).map(Self::Operator),
        };
        decoded.map_err(|why| wrong(why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_something_behind_it_is_none() {
        let (vn, nve): (VnName, NveName) = ("red".parse().unwrap(), "a".parse().unwrap());
        let clock = Clock {
            version: Version(300),
            epoch: Epoch(7),
        };
        let stored = [
            (Key::Member(vn.clone(), nve), Record::Member),
            (Key::Clock(vn), Record::Clock(clock)),
        ];
        for (key, record) in stored {
            let mut bytes = record.encode(&key).unwrap();
            assert_eq!(Record::decode(&key, &bytes), Ok(record));
            bytes.push(0);
            assert!(Record::decode(&key, &bytes).is_err());
        }
    }

    #[test]
    fn keys_are_their_paths() {
        let (vn, nve): (VnName, NveName) = ("red".parse().unwrap(), "a.b-c_1".parse().unwrap());
        let mac = Mac([2, 0, 0, 0, 0xab, 1]);
        let keys = [
            (Key::Vn(vn.clone()), "vn/red"),
            (Key::Clock(vn.clone()), "clock/red"),
            (Key::Vni(Vni::try_from(0xabc).unwrap()), "vni/000abc"),
            (Key::Member(vn.clone(), nve.clone()), "member/red/a.b-c_1"),
            (Key::Joined(vn.clone(), nve.clone()), "joined/red/a.b-c_1"),
            (
                Key::Placement(vn.clone(), mac),
                "placement/red/02000000ab01",
            ),
            (Key::Mapping(vn, mac), "mapping/red/02000000ab01"),
            (Key::Edge(nve.clone()), "edge/a.b-c_1"),
            (Key::Revoked(nve), "revoked/a.b-c_1"),
            (
                Key::Audit(AuditId { at: 1, tie: 255 }),
                "audit/fffffffffffffffe-ffffffffffffff00",
            ),
            (Key::Declared("a".parse().unwrap()), "declared/a"),
            (Key::Operator("a".parse().unwrap()), "operator/a"),
            (Key::Claim([192, 0, 2, 1].into()), "claim/192.0.2.1"),
            (
                Key::Claim("2001:db8::1".parse().unwrap()),
                "claim/2001:db8::1",
            ),
        ];
        for (key, path) in keys {
            assert_eq!(key.to_string(), path);
            assert_eq!(Key::parse(path), Ok(key));
        }
        for wrong in [
            "",
            "vn",
            "vn/",
            "vn/a/b",
            "member/red",
            "mapping/red/02000000AB01",
            "mapping/red/2",
            "mapping/red/+2000000ab01",
            "audit/1-2",
            "other/x",
            "joined/red/a/b",
            "claim/2001:db8:0::1",
            "claim/192.0.2.1/24",
            "operator/a/b",
        ] {
            assert!(Key::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}

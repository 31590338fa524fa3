//! What the authority finds in its store: any bytes are no record, or one that is the same when it has
//! been written again, and that a server takes, and has again when giving it up was taken back.

use vswitch_control::message::ima::LogId;
use vswitch_control::message::operator::{Change, Places, Text};
use vswitch_control::message::overlay::{Admission, Endpoint, LeaseEnd, Protection, VnSettings};
use vswitch_control::types::{BootId, Epoch, Generation, Mac, Version};
use vswitch_ima::model::{
    Audit, Claim, Clock, EdgeRecord, Joined, Key, MappingRecord, Op, Placed, Record, Revoked,
    State, VnRecord,
};

use super::Eat;

/// Changes of a VN that a server remembers.
const LOG: usize = 16;

/// Nothing to make ready. An input is the length of a key's path, the path, and the value.
#[must_use]
pub fn start() -> Eat {
    Box::new(|bytes| {
        let Some((len, rest)) = bytes.split_first() else {
            return;
        };
        let (path, value) = rest.split_at(usize::from(*len).min(rest.len()));
        let Ok(path) = core::str::from_utf8(path) else {
            return;
        };
        let Ok(key) = Key::parse(path) else {
            return;
        };
        assert_eq!(key.to_string(), path, "one key has one path");
        let Ok(record) = Record::decode(&key, value) else {
            return;
        };
        let written = record.encode(&key).expect("what was read can be written");
        assert_eq!(Record::decode(&key, &written).as_ref(), Ok(&record));
        let mut state = State::load(LOG, [(key.clone(), record)]);
        // What operators did is not kept in memory.
        let known = !matches!(key, Key::Audit(_));
        assert_eq!(state.contains(&key), known);
        let undo = state.apply(&[Op::Delete(key.clone())]);
        state.revert(&undo);
        assert_eq!(state.contains(&key), known);
    })
}

fn records() -> Vec<(&'static str, Record)> {
    let nve = || "host-a".parse().expect("a name");
    let port = || "vm1".parse().expect("a name");
    let ips = || {
        let all = vec![[10, 0, 0, 1].into(), "fd00::1".parse().expect("an address")];
        all.try_into().expect("two")
    };
    let endpoint = || Endpoint {
        tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().expect("one"),
        control_address: ([192, 0, 2, 1], 4600).into(),
    };
    let revoked = || Revoked {
        by: Text::of("root"),
        reason: Text::of("stolen"),
    };
    let settings = VnSettings {
        vni: 1001.try_into().expect("24 bits"),
        protection: Protection::default(),
        lease_end: LeaseEnd::default(),
        admission: Admission::default(),
    };
    let clock = Clock {
        version: Version(300),
        epoch: Epoch(7),
    };
    let places = Places {
        tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().expect("one"),
        control: vec!["10.0.0.0/8".parse().expect("a prefix")]
            .try_into()
            .expect("one"),
    };
    vec![
        (
            "vn/red",
            Record::Vn(VnRecord {
                settings,
                log: LogId(77),
            }),
        ),
        ("vni/0003e9", Record::Vni("red".parse().expect("a name"))),
        ("clock/red", Record::Clock(clock)),
        ("member/red/host-a", Record::Member),
        (
            "joined/red/host-a",
            Record::Joined(Joined {
                endpoint: endpoint(),
                since: Version(9),
            }),
        ),
        (
            "placement/red/020000000001",
            Record::Placed(Placed {
                ips: ips(),
                nve: nve(),
                port: port(),
            }),
        ),
        (
            "mapping/red/020000000001",
            Record::Mapping(MappingRecord {
                ips: ips(),
                nve: nve(),
                port: port(),
                generation: Generation(300),
            }),
        ),
        (
            "edge/host-a",
            Record::Edge(EdgeRecord {
                boot: BootId([3; 16]),
                endpoint: endpoint(),
                renewals: 400,
            }),
        ),
        ("revoked/host-a", Record::Revoked(revoked())),
        (
            "audit/fffffffffffffffe-ffffffffffffff00",
            Record::Audit(Audit {
                who: Text::of("root"),
                change: Change::PlacementRemove {
                    vn: "red".parse().expect("a name"),
                    mac: Mac([2, 0, 0, 0, 0, 1]),
                },
            }),
        ),
        ("declared/host-a", Record::Declared(places)),
        (
            "claim/192.0.2.1",
            Record::Claim(Claim {
                nve: nve(),
                declared: true,
            }),
        ),
        ("operator/root", Record::Operator(revoked())),
    ]
}

/// One record of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let written = records().into_iter().map(|(path, record)| {
        let key = Key::parse(path).expect("a key");
        let mut seed = vec![u8::try_from(path.len()).expect("short")];
        seed.extend(path.bytes());
        seed.extend(record.encode(&key).expect("a record"));
        seed
    });
    written.collect()
}

//! The table against a map of the standard library, and its chains against tenants.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn key(vn: u16, mac: u64) -> Key {
    Key::new(VnId(vn), MacAddr::from_u64(mac))
}

/// What is vouched for is what the entry says, all of it.
#[test]
fn only_the_whole_entry_vouches() {
    let ip = |last| Ipv4Addr::new(10, 0, 0, last);
    let tunnel = |id| Destination::Tunnel(TunnelId(id));
    let mut fdb = Fdb::new(7);
    let origin = Origin::Static { ipv4: Some(ip(1)) };
    let destination = tunnel(3);
    fdb.insert(
        key(1, 2),
        Entry {
            destination,
            origin,
        },
    );
    assert!(fdb.vouches(key(1, 2), tunnel(3), ip(1)));
    assert!(!fdb.vouches(key(2, 2), tunnel(3), ip(1)), "network");
    assert!(!fdb.vouches(key(1, 3), tunnel(3), ip(1)), "MAC address");
    assert!(!fdb.vouches(key(1, 2), tunnel(2), ip(1)), "tunnel");
    let port = Destination::Port(PortId(3));
    assert!(!fdb.vouches(key(1, 2), port, ip(1)), "kind of place");
    assert!(!fdb.vouches(key(1, 2), tunnel(3), ip(2)), "address");
    fdb.insert(key(1, 2), to_tunnel(3));
    let zero = Ipv4Addr::UNSPECIFIED;
    assert!(
        !fdb.vouches(key(1, 2), tunnel(3), zero),
        "no address at all"
    );
    let learned = Entry {
        destination,
        origin: Origin::Learned {
            seen: ip(1).to_bits() & SEEN_MASK,
        },
    };
    fdb.insert(key(1, 2), learned);
    assert!(!fdb.vouches(key(1, 2), tunnel(3), ip(1)), "learned");
}

fn to_tunnel(id: u32) -> Entry {
    Entry {
        destination: Destination::Tunnel(TunnelId(id)),
        origin: Origin::Static { ipv4: None },
    }
}

/// Every entry must be found from its home slot without crossing an empty one.
fn assert_sound(fdb: &Fdb) {
    let used = fdb.slots.iter().filter(|slot| !slot.is_empty()).count();
    assert_eq!(used, fdb.len());
    assert!(fdb.len() <= fdb.capacity());
    assert!(fdb.slots.len().is_power_of_two());
    for (key, entry) in fdb.iter() {
        assert_eq!(fdb.get(key), Some(entry));
    }
}

#[test]
fn keys_keep_both_parts() {
    let mac = MacAddr([0x52, 0x54, 1, 2, 3, 0xff]);
    let key = Key::new(VnId(0xfffe), mac);
    assert_eq!((key.vn(), key.mac()), (VnId(0xfffe), mac));
    assert_ne!(Key::new(VnId(1), mac), Key::new(VnId(2), mac));
}

#[test]
fn the_all_zero_key_is_a_key() {
    let mut fdb = Fdb::new(1);
    assert_eq!(fdb.lookup(key(0, 0)), None);
    let entry = Entry {
        destination: Destination::Port(PortId(0)),
        origin: Origin::Learned { seen: 0 },
    };
    assert_eq!(fdb.insert(key(0, 0), entry), Insert::New);
    assert_eq!(fdb.get(key(0, 0)), Some(entry));
    assert_eq!(fdb.remove(key(0, 0)), Some(entry));
    assert!(fdb.is_empty());
}

#[test]
#[cfg_attr(miri, ignore = "minutes under Miri")]
fn a_hundred_thousand_entries() {
    const COUNT: u64 = 100_000;
    let mut fdb = Fdb::new(0x5eed);
    for n in 0..COUNT {
        // Ten networks with the same tenant addresses.
        let (vn, mac) = ((n % 10) as u16, 0x5254_0000_0000 + n / 10);
        assert_eq!(fdb.insert(key(vn, mac), to_tunnel(n as u32)), Insert::New);
    }
    assert_eq!(fdb.len() as u64, COUNT);
    assert_sound(&fdb);
    // 2¹⁸ slots of 16 octets; 2¹⁷ would be more than 0.7 full.
    assert_eq!(fdb.memory_bytes(), 16 << 18);
    let longest = fdb.iter().map(|(key, _)| steps(&fdb, key)).max();
    assert!(longest < Some(Fdb::LEARN_PROBES), "{longest:?}");
    for n in (0..COUNT).step_by(2) {
        let key = key((n % 10) as u16, 0x5254_0000_0000 + n / 10);
        assert_eq!(fdb.remove(key), Some(to_tunnel(n as u32)));
    }
    for n in 0..COUNT {
        let expected = (n % 2 == 1).then_some(Destination::Tunnel(TunnelId(n as u32)));
        let key = key((n % 10) as u16, 0x5254_0000_0000 + n / 10);
        assert_eq!(fdb.lookup(key), expected);
    }
    assert_sound(&fdb);
}

/// How far an entry is from its home.
fn steps(fdb: &Fdb, key: Key) -> usize {
    match fdb.probe(key) {
        Probe::Found(index) => index.wrapping_sub(fdb.home(key)) & fdb.mask(),
        Probe::Vacant { .. } => panic!("the key is in the table"),
    }
}

/// Keys that all have the same home: what a tenant would choose who knew the secrets.
fn colliding(fdb: &Fdb, count: usize) -> Vec<Key> {
    let keys = (0..).map(|mac| key(1, mac));
    keys.filter(|&key| fdb.home(key) == fdb.mask())
        .take(count)
        .collect()
}

#[test]
fn learning_does_not_build_long_chains() {
    let mut fdb = Fdb::new(3);
    fdb.reserve(1000);
    let keys = colliding(&fdb, Fdb::LEARN_PROBES + 1);
    let (last, chain) = keys.split_last().unwrap();
    for &key in chain {
        assert!(fdb.try_insert_new(key, to_tunnel(1)));
    }
    assert!(!fdb.try_insert_new(*last, to_tunnel(1)));
    assert_eq!(fdb.get(*last), None);
    // A mapping goes in regardless.
    assert_eq!(fdb.insert(*last, to_tunnel(2)), Insert::New);
    assert_sound(&fdb);
    // Removal in the middle of a chain that wraps around the end of the table.
    for &key in chain.iter().step_by(3) {
        assert!(fdb.remove(key).is_some());
        assert_sound(&fdb);
    }
    assert_eq!(fdb.lookup(*last), Some(Destination::Tunnel(TunnelId(2))));
}

#[test]
fn learning_does_not_grow_the_table() {
    let mut fdb = Fdb::new(3);
    let (size, capacity) = (fdb.memory_bytes(), fdb.capacity());
    let added = (0..1000).filter(|&mac| fdb.try_insert_new(key(1, mac), to_tunnel(1)));
    assert_eq!(added.count(), capacity);
    assert_eq!(fdb.memory_bytes(), size);
    assert_sound(&fdb);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Key, Entry),
    TryInsert(Key, Entry),
    Remove(Key),
    Reserve(usize),
    Retain {
        start: usize,
        count: usize,
        modulus: u64,
    },
}

fn any_key() -> impl Strategy<Value = Key> {
    // Few keys, so that the same ones meet again.
    (0u16..3, 0u64..200).prop_map(|(vn, mac)| key(vn, mac))
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let destination = prop_oneof![
        any::<u16>().prop_map(|id| Destination::Port(PortId(id))),
        (0..TunnelId::LIMIT).prop_map(|id| Destination::Tunnel(TunnelId(id))),
    ];
    let origin = prop_oneof![
        any::<Option<Ipv4Addr>>().prop_map(|ipv4| Origin::Static { ipv4 }),
        (0..=SEEN_MASK).prop_map(|seen| Origin::Learned { seen }),
    ];
    (destination, origin).prop_map(|(destination, origin)| Entry {
        destination,
        origin,
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (any_key(), any_entry()).prop_map(|(key, entry)| Step::Insert(key, entry)),
        5 => (any_key(), any_entry()).prop_map(|(key, entry)| Step::TryInsert(key, entry)),
        8 => any_key().prop_map(Step::Remove),
        1 => (0usize..300).prop_map(Step::Reserve),
        1 => (any::<usize>(), 0usize..2000, 1u64..7)
            .prop_map(|(start, count, modulus)| Step::Retain { start, count, modulus }),
    ]
}

proptest! {
    #[test]
    fn behaves_like_a_map(
        seed: u64,
        steps in prop::collection::vec(any_step(), 0..600),
    ) {
        let mut fdb = Fdb::new(seed);
        let mut model: HashMap<Key, Entry> = HashMap::new();
        for step in steps {
            match step {
                Step::Insert(key, entry) => {
                    let expected = model.insert(key, entry).map_or(Insert::New, Insert::Replaced);
                    prop_assert_eq!(fdb.insert(key, entry), expected);
                }
                Step::TryInsert(key, entry) => {
                    let room = fdb.len() < fdb.capacity();
                    let expected = room && !model.contains_key(&key);
                    prop_assert_eq!(fdb.try_insert_new(key, entry), expected);
                    if expected {
                        model.insert(key, entry);
                    }
                }
                Step::Remove(key) => prop_assert_eq!(fdb.remove(key), model.remove(&key)),
                Step::Reserve(count) => {
                    fdb.reserve(count);
                    prop_assert!(fdb.capacity() >= fdb.len() + count);
                }
                Step::Retain { start, count, modulus } => {
                    let all = count >= fdb.slots.len();
                    let mut removed = Vec::new();
                    fdb.retain_from(start, count, |key, entry| {
                        let keep = key.0 % modulus != 0;
                        if !keep {
                            removed.push((key, entry));
                        }
                        keep
                    });
                    for (key, entry) in removed {
                        prop_assert_eq!(model.remove(&key), Some(entry));
                    }
                    if all {
                        prop_assert!(model.keys().all(|key| key.0 % modulus != 0));
                    }
                }
            }
            prop_assert_eq!(fdb.len(), model.len());
        }
        assert_sound(&fdb);
        for (&key, &entry) in &model {
            prop_assert_eq!(fdb.get(key), Some(entry));
        }
        let mut other = Fdb::new(!seed);
        for (&key, &entry) in &model {
            other.insert(key, entry);
        }
        prop_assert_eq!(&fdb, &other);
        if let Some(&key) = model.keys().next() {
            other.remove(key);
            prop_assert_ne!(&fdb, &other);
        }
    }

    #[test]
    fn a_burst_finds_what_single_lookups_find(
        seed: u64,
        present in prop::collection::vec((any_key(), any_entry()), 0..300),
        keys in prop::collection::vec(any_key(), 0..200),
        room in 0usize..220,
    ) {
        let mut fdb = Fdb::new(seed);
        for (key, entry) in present {
            fdb.insert(key, entry);
        }
        let untouched = Some(Destination::Port(PortId(0xabcd)));
        let mut out = vec![untouched; room];
        fdb.lookup_burst(&keys, &mut out);
        for (n, found) in out.into_iter().enumerate() {
            let expected = keys.get(n).map_or(untouched, |&key| fdb.lookup(key));
            prop_assert_eq!(found, expected);
        }
    }
}

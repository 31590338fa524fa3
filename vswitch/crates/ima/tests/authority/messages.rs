//! What edges, operators and the authority send each other, as bytes that anybody may have made.

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use vswitch_control::hybrid::{ExchangeId, Initiator};
use vswitch_control::message::ima::{
    Base, EdgeLimits, FromEdge, FromIma, Goodbye, LogId, MAX_SEALED, Member, PROTOCOL, Refusal,
    Rejection, Resume, SealedBytes, Update, VnFromEdge, VnFromIma, Wanted, Withdrawal,
};
use vswitch_control::message::operator::{
    AuditId, AuditLine, Change, Denied, EdgeLine, FromOperator, MAX_TEXT, Page, Request, Response,
    Text, ToOperator,
};
use vswitch_control::message::overlay::{
    Admission, Endpoint, Ips, LeaseEnd, Mapping, Placement, Protection, VnSettings, Vni,
};
use vswitch_control::message::{Bounded, MAX_MESSAGE, decode, encode};
use vswitch_control::types::{BootId, Epoch, Generation, Mac, NveName, Version, VnName};

fn vn() -> VnName {
    "red".parse().unwrap()
}

fn nve() -> NveName {
    "host-a".parse().unwrap()
}

fn mac() -> Mac {
    Mac([2, 0, 0, 0, 0, 1])
}

fn ips() -> Ips {
    vec![[10, 0, 0, 1].into(), "fd00::1".parse().unwrap()]
        .try_into()
        .unwrap()
}

fn endpoint() -> Endpoint {
    Endpoint {
        tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().unwrap(),
        control_address: "[2001:db8::1]:4790".parse().unwrap(),
    }
}

fn mapping() -> Mapping {
    Mapping {
        mac: mac(),
        generation: Generation(300),
        nve: nve(),
        ips: ips(),
    }
}

fn settings() -> VnSettings {
    VnSettings {
        vni: Vni::try_from(0xff_ffff).unwrap(),
        protection: Protection::Integrity,
        lease_end: LeaseEnd::Keep,
        admission: Admission::FirstClaim,
    }
}

fn placement() -> Placement {
    Placement {
        mac: mac(),
        ips: ips(),
        nve: nve(),
        port: "vm1".parse().unwrap(),
    }
}

fn sealed() -> SealedBytes {
    SealedBytes::try_from(vec![7; 200]).unwrap()
}

fn offer() -> FromEdge {
    FromEdge::Join {
        vn: vn(),
        exchange: ExchangeId([3; 16]),
        offer: Initiator::new().unwrap().offer().clone(),
        resume: Some(Resume {
            log: LogId(9),
            version: Version(300),
        }),
    }
}

fn from_edge() -> Vec<FromEdge> {
    vec![
        FromEdge::Hello {
            version: PROTOCOL,
            boot: BootId([1; 16]),
            endpoint: endpoint(),
        },
        FromEdge::Renew { sequence: 1 << 40 },
        offer(),
        FromEdge::Leave { vn: vn() },
        FromEdge::Sealed {
            vn: vn(),
            epoch: Epoch(4),
            bytes: sealed(),
        },
    ]
}

fn limits() -> EdgeLimits {
    EdgeLimits {
        messages_per_second: 1,
        burst: 2,
        vns: 3,
        registrations: 4,
    }
}

fn from_ima() -> Vec<FromIma> {
    vec![
        FromIma::Welcome {
            lease: 3600,
            limits: limits(),
        },
        FromIma::Renewed {
            sequence: 3,
            lease: 3600,
        },
        FromIma::Refused {
            vn: vn(),
            why: Refusal::NotMember,
        },
        FromIma::NewEpoch {
            vn: vn(),
            epoch: Epoch(4),
        },
        FromIma::Expelled { vn: vn() },
        FromIma::Revoked { nve: nve() },
        FromIma::Sealed {
            vn: vn(),
            epoch: Epoch(4),
            bytes: sealed(),
        },
        FromIma::Goodbye {
            why: Goodbye::Replaced,
        },
    ]
}

fn vn_from_edge() -> Vec<VnFromEdge> {
    vec![
        VnFromEdge::Register {
            port: "vm1".parse().unwrap(),
            mac: mac(),
            ips: ips(),
        },
        VnFromEdge::Withdraw { mac: mac() },
        VnFromEdge::Query {
            id: 7,
            what: Wanted::Ip([10, 0, 0, 1].into()),
        },
    ]
}

fn update() -> Update {
    Update {
        base: Base::Full {
            first: true,
            last: false,
        },
        to: Version(300),
        members: vec![Member {
            nve: nve(),
            endpoint: endpoint(),
        }]
        .try_into()
        .unwrap(),
        gone: vec![nve()].try_into().unwrap(),
        mappings: vec![mapping()].try_into().unwrap(),
        withdrawn: vec![Withdrawal {
            mac: mac(),
            generation: Generation(1),
        }]
        .try_into()
        .unwrap(),
    }
}

fn vn_from_ima() -> Vec<VnFromIma> {
    vec![
        VnFromIma::Update(update()),
        VnFromIma::Registered {
            mac: mac(),
            generation: Generation(5),
        },
        VnFromIma::Rejected {
            mac: mac(),
            why: Rejection::Taken,
        },
        VnFromIma::Placed,
        VnFromIma::Answer {
            id: 7,
            mapping: Some(mapping()),
            ttl: 5,
        },
    ]
}

fn from_operator() -> Vec<FromOperator> {
    let changes = [
        Change::VnAdd {
            vn: vn(),
            settings: settings(),
        },
        Change::PlacementAdd {
            vn: vn(),
            placement: placement(),
        },
        Change::PlacementMove {
            vn: vn(),
            mac: mac(),
            nve: nve(),
            port: None,
        },
        Change::Revoke {
            nve: nve(),
            reason: Text::of("stolen"),
        },
    ];
    let requests = changes.into_iter().map(Request::Change).chain([
        Request::Server,
        Request::Mappings {
            vn: vn(),
            after: Some(mac()),
        },
        Request::Audit {
            before: Some(AuditId { at: 1, tie: 2 }),
        },
    ]);
    let requests = requests.map(|request| FromOperator::Request { id: 1, request });
    requests
        .chain([FromOperator::Hello { version: 1 }])
        .collect()
}

fn to_operator() -> Vec<ToOperator> {
    let line = EdgeLine {
        nve: nve(),
        connected: true,
        endpoint: Some(endpoint()),
        lease: Some(1),
        vns: 2,
        revoked: None,
    };
    let audit = AuditLine {
        id: AuditId { at: 1, tie: 2 },
        who: Text::of("root"),
        change: Change::Unrevoke { nve: nve() },
    };
    let edges = Page {
        items: vec![line].try_into().unwrap(),
        more: true,
    };
    let audit = Page {
        items: vec![audit].try_into().unwrap(),
        more: false,
    };
    vec![
        ToOperator::Welcome,
        ToOperator::Response {
            id: 1,
            result: Ok(Response::Edges(edges)),
        },
        ToOperator::Response {
            id: 2,
            result: Ok(Response::Audit(audit)),
        },
        ToOperator::Response {
            id: 3,
            result: Err(Denied::Conflict(Text::of("no"))),
        },
        ToOperator::Goodbye { why: Text::of("") },
    ]
}

/// Whatever these bytes are: if they are a message, they are its only form.
fn eat<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    if let Ok(message) = decode::<T>(bytes) {
        assert_eq!(encode(&message).unwrap(), bytes);
    }
}

fn eat_all(bytes: &[u8]) {
    eat::<FromEdge>(bytes);
    eat::<FromIma>(bytes);
    eat::<VnFromEdge>(bytes);
    eat::<VnFromIma>(bytes);
    eat::<FromOperator>(bytes);
    eat::<ToOperator>(bytes);
}

fn whole<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    samples: &[T],
) -> Vec<Vec<u8>> {
    samples
        .iter()
        .map(|sample| {
            let bytes = encode(sample).unwrap();
            assert_eq!(decode::<T>(&bytes).as_ref(), Ok(sample));
            for cut in 0..bytes.len() {
                assert!(
                    decode::<T>(&bytes[..cut]).is_err(),
                    "{sample:?} cut at {cut}"
                );
            }
            bytes
        })
        .collect()
}

fn samples() -> Vec<Vec<u8>> {
    [
        whole(&from_edge()),
        whole(&from_ima()),
        whole(&vn_from_edge()),
        whole(&vn_from_ima()),
        whole(&from_operator()),
        whole(&to_operator()),
    ]
    .concat()
}

#[test]
fn messages_survive_and_pieces_of_them_do_not() {
    for bytes in samples() {
        eat_all(&bytes);
    }
}

#[test]
fn every_collection_has_its_bound() {
    let many = |len: usize| vec![nve(); len];
    assert!(Bounded::<NveName, 1024>::try_from(many(1024)).is_ok());
    assert!(Bounded::<NveName, 1024>::try_from(many(1025)).is_err());
    assert!(Ips::try_from(vec![[10, 0, 0, 1].into(); 17]).is_err());
    assert!(SealedBytes::try_from(vec![0; MAX_SEALED + 1]).is_err());
    assert!(SealedBytes::try_from(vec![0; MAX_SEALED]).is_ok());
    assert!(Text::try_from("x".repeat(MAX_TEXT + 1)).is_err());
    assert!(Text::try_from("a\nb".to_owned()).is_err());
    assert!(Vni::try_from(1 << 24).is_err());
    // The same, on the wire: 17 addresses behind a valid beginning.
    let good = encode(&VnFromEdge::Register {
        port: "p".parse().unwrap(),
        mac: mac(),
        ips: Ips::default(),
    })
    .unwrap();
    let mut bad = good[..good.len() - 1].to_vec();
    bad.push(17);
    for _ in 0..17 {
        bad.extend([0, 10, 0, 0, 1]);
    }
    let refused = decode::<VnFromEdge>(&bad).unwrap_err();
    let mut fits = good[..good.len() - 1].to_vec();
    fits.push(16);
    for _ in 0..16 {
        fits.extend([0, 10, 0, 0, 1]);
    }
    assert!(
        decode::<VnFromEdge>(&fits).is_ok(),
        "only the bound refuses it: {refused}"
    );
    // A length that nobody has memory for.
    let mut huge = good[..good.len() - 1].to_vec();
    huge.extend([0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(decode::<VnFromEdge>(&huge).is_err());
}

#[test]
fn the_largest_sealed_message_fits_a_frame() {
    let longest: VnName = "v".repeat(63).parse().unwrap();
    let bytes = SealedBytes::try_from(vec![0; MAX_SEALED]).unwrap();
    let sealed = FromIma::Sealed {
        vn: longest,
        epoch: Epoch(u64::MAX),
        bytes,
    };
    assert!(encode(&sealed).unwrap().len() <= MAX_MESSAGE);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_message_in_one_form_or_none(
        bytes in prop::collection::vec(any::<u8>(), 0..400),
        sample in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        eat_all(&bytes);
        thread_local! {
            static SAMPLES: Vec<Vec<u8>> = samples();
        }
        let mut bytes = SAMPLES.with(|samples| sample.get(samples).clone());
        for (at, to) in changes {
            let at = at.index(bytes.len());
            bytes[at] = to;
        }
        eat_all(&bytes);
    }
}

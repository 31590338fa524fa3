//! What an edge and the authority say to each other: any bytes are no message, or the one canonical
//! encoding of one; and whatever the authority says, an edge's client takes it and goes on.

use std::collections::BTreeMap;
use std::time::Duration;

use vswitch_control::client::{Client, Settings};
use vswitch_control::hybrid::{ANSWER_LEN, Answer, ExchangeId, OFFER_LEN, Offer};
use vswitch_control::message::encode;
use vswitch_control::message::ima::{
    Base, EdgeLimits, FromEdge, FromIma, Goodbye, LogId, MAX_ENTRIES, MAX_SEALED, Member, PROTOCOL,
    Refusal, Rejection, Resume, SealedBytes, Update, VnFromEdge, VnFromIma, Wanted, Withdrawal,
};
use vswitch_control::message::overlay::{Endpoint, LeaseEnd, Mapping, Protection};
use vswitch_control::types::{BootId, Epoch, Generation, Mac, Version, VnName};

use super::{Eat, canonical};

fn endpoint() -> Endpoint {
    Endpoint {
        tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().expect("one"),
        control_address: ([192, 0, 2, 1], 4600).into(),
    }
}

fn vn() -> VnName {
    "red".parse().expect("a name")
}

/// An edge that wants into a VN, with a session.
fn client() -> Client {
    let settings = Settings {
        name: "host-a".parse().expect("a name"),
        identity: "spiffe://lab/nve/host-a".to_owned(),
        boot: BootId([1; 16]),
        endpoint: endpoint(),
        servers: vec![([192, 0, 2, 9], 4700).into()],
        always_stop: false,
        queries: 200,
        port_queries: 20,
        seed: 1,
    };
    let mut client = Client::new(settings, Duration::ZERO);
    let port = "vm1".parse().expect("a name");
    let addresses = BTreeMap::from([(Mac([2, 0, 0, 0, 0, 1]), (port, Default::default()))]);
    let now = Duration::from_secs(60);
    client.want(now, BTreeMap::from([(vn(), addresses)]));
    client.connected(now, "spiffe://lab/ima/one", &[7; 32]);
    client
}

/// Nothing to make ready.
#[must_use]
pub fn start() -> Eat {
    Box::new(|bytes| {
        if let Some(FromEdge::Sealed { bytes, .. }) = canonical::<FromEdge>(bytes) {
            assert!(bytes.as_bytes().len() <= MAX_SEALED);
        }
        canonical::<VnFromEdge>(bytes);
        if let Some(VnFromIma::Update(update)) = canonical::<VnFromIma>(bytes) {
            let lists = [
                update.members.len(),
                update.gone.len(),
                update.mappings.len(),
                update.withdrawn.len(),
            ];
            assert!(lists.iter().all(|length| *length <= MAX_ENTRIES));
        }
        if let Some(message) = canonical::<FromIma>(bytes) {
            let mut client = client();
            let mut now = Duration::from_secs(61);
            let limits = EdgeLimits {
                messages_per_second: 1000,
                burst: 2000,
                vns: 1,
                registrations: 1,
            };
            for message in [FromIma::Welcome { lease: 60, limits }, message] {
                client.received(now, message);
                assert!(client.outputs().count() < 100);
                if let Some(next) = client.deadline() {
                    now = now.max(next);
                    client.poll(now);
                }
                let _ = client.status(now);
            }
        }
    })
}

fn from_edge() -> Vec<FromEdge> {
    let bytes = SealedBytes::try_from(vec![4; 40]).expect("few");
    let mut messages = vec![
        FromEdge::Hello {
            version: PROTOCOL,
            boot: BootId([5; 16]),
            endpoint: endpoint(),
        },
        FromEdge::Renew { sequence: 1 << 40 },
        FromEdge::Leave { vn: vn() },
        FromEdge::Sealed {
            vn: vn(),
            epoch: Epoch(7),
            bytes,
        },
    ];
    let offer = Offer::try_from([2; OFFER_LEN].as_slice());
    messages.extend(offer.map(|offer| FromEdge::Join {
        vn: vn(),
        exchange: ExchangeId([1; 16]),
        offer,
        resume: Some(Resume {
            log: LogId(9),
            version: Version(300),
        }),
    }));
    messages
}

fn from_ima() -> Vec<FromIma> {
    let limits = EdgeLimits {
        messages_per_second: 1000,
        burst: 2000,
        vns: 4096,
        registrations: 4096,
    };
    let nve = "host-b".parse().expect("a name");
    let bytes = SealedBytes::try_from(vec![4; 40]).expect("few");
    let mut messages = vec![
        FromIma::Welcome {
            lease: 3600,
            limits,
        },
        FromIma::Renewed {
            sequence: 3,
            lease: 3600,
        },
        FromIma::Refused {
            vn: vn(),
            why: Refusal::Busy,
        },
        FromIma::NewEpoch {
            vn: vn(),
            epoch: Epoch(4),
        },
        FromIma::Expelled { vn: vn() },
        FromIma::Revoked { nve },
        FromIma::Sealed {
            vn: vn(),
            epoch: Epoch(4),
            bytes,
        },
        FromIma::Goodbye {
            why: Goodbye::Undeclared,
        },
    ];
    let answer = Answer::try_from([3; ANSWER_LEN].as_slice());
    messages.extend(answer.map(|answer| FromIma::Joined {
        vn: vn(),
        exchange: ExchangeId([1; 16]),
        epoch: Epoch(7),
        answer,
        log: LogId(9),
        vni: 1001.try_into().expect("24 bits"),
        protection: Protection::Confidential,
        lease_end: LeaseEnd::Keep,
    }));
    messages
}

fn sealed() -> (Vec<VnFromEdge>, Vec<VnFromIma>) {
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let nve = || "host-b".parse().expect("a name");
    let mapping = || Mapping {
        mac,
        generation: Generation(300),
        nve: nve(),
        ips: vec![[10, 0, 0, 1].into(), "fd00::1".parse().expect("an address")]
            .try_into()
            .expect("two"),
    };
    let update = Update {
        base: Base::Version(Version(299)),
        to: Version(301),
        members: vec![Member {
            nve: nve(),
            endpoint: endpoint(),
        }]
        .try_into()
        .expect("one"),
        gone: vec![nve()].try_into().expect("one"),
        mappings: vec![mapping()].try_into().expect("one"),
        withdrawn: vec![Withdrawal {
            mac,
            generation: Generation(301),
        }]
        .try_into()
        .expect("one"),
    };
    let from_edge = vec![
        VnFromEdge::Register {
            port: "vm1".parse().expect("a name"),
            mac,
            ips: mapping().ips,
        },
        VnFromEdge::Withdraw { mac },
        VnFromEdge::Query {
            id: 300,
            what: Wanted::Ip([10, 0, 0, 9].into()),
        },
    ];
    let from_ima = vec![
        VnFromIma::Update(Update {
            base: Base::Full {
                first: true,
                last: false,
            },
            ..update.clone()
        }),
        VnFromIma::Update(update),
        VnFromIma::Registered {
            mac,
            generation: Generation(300),
        },
        VnFromIma::Rejected {
            mac,
            why: Rejection::Busy,
        },
        VnFromIma::Placed,
        VnFromIma::Answer {
            id: 300,
            mapping: Some(mapping()),
            ttl: 5,
        },
    ];
    (from_edge, from_ima)
}

/// One message of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let (sealed_edge, sealed_ima) = sealed();
    let edge = from_edge();
    let ima = from_ima();
    let clear = edge.iter().map(encode).chain(ima.iter().map(encode));
    let sealed = sealed_edge.iter().map(encode);
    let sealed = sealed.chain(sealed_ima.iter().map(encode));
    clear.chain(sealed).filter_map(Result::ok).collect()
}

//! What an operator and the authority say to each other: any bytes are no message, or the one canonical
//! encoding of one.

use vswitch_control::message::encode;
use vswitch_control::message::ima::LogId;
use vswitch_control::message::operator::{
    AuditId, Change, Denied, FromOperator, MAX_PAGE, MAX_TEXT, PROTOCOL, Places, Request, Response,
    Server, Text, ToOperator,
};
use vswitch_control::message::overlay::{Placement, VnSettings};
use vswitch_control::types::Mac;

use super::{Eat, canonical};

/// Nothing to make ready.
#[must_use]
pub fn start() -> Eat {
    Box::new(|bytes| {
        if let Some(FromOperator::Request {
            request: Request::Change(Change::Revoke { reason, .. }),
            ..
        }) = canonical::<FromOperator>(bytes)
        {
            assert!(reason.as_str().len() <= MAX_TEXT);
            assert!(!reason.as_str().contains(char::is_control));
        }
        if let Some(ToOperator::Response {
            result: Ok(Response::Audit(page)),
            ..
        }) = canonical::<ToOperator>(bytes)
        {
            assert!(page.items.len() <= MAX_PAGE);
        }
    })
}

fn changes() -> Vec<Change> {
    let (vn, nve) = (
        || "red".parse().expect("a name"),
        || "host-a".parse().expect("a name"),
    );
    let mac = Mac([2, 0, 0, 0, 0, 1]);
    let settings = VnSettings {
        vni: 1001.try_into().expect("24 bits"),
        protection: vswitch_control::message::overlay::Protection::default(),
        lease_end: vswitch_control::message::overlay::LeaseEnd::default(),
        admission: vswitch_control::message::overlay::Admission::default(),
    };
    let placement = Placement {
        mac,
        ips: vec![[10, 0, 0, 1].into()].try_into().expect("one"),
        nve: nve(),
        port: "vm1".parse().expect("a name"),
    };
    let places = Places {
        tunnel_addresses: vec![[192, 0, 2, 1].into()].try_into().expect("one"),
        control: vec!["10.0.0.0/8".parse().expect("a prefix")]
            .try_into()
            .expect("one"),
    };
    let reason = Text::of("stolen");
    vec![
        Change::VnAdd { vn: vn(), settings },
        Change::VnSet { vn: vn(), settings },
        Change::VnRemove { vn: vn() },
        Change::MemberAdd {
            vn: vn(),
            nve: nve(),
        },
        Change::MemberRemove {
            vn: vn(),
            nve: nve(),
        },
        Change::PlacementAdd {
            vn: vn(),
            placement,
        },
        Change::PlacementRemove { vn: vn(), mac },
        Change::PlacementMove {
            vn: vn(),
            mac,
            nve: nve(),
            port: None,
        },
        Change::Revoke {
            nve: nve(),
            reason: reason.clone(),
        },
        Change::Unrevoke { nve: nve() },
        Change::Release { nve: nve() },
        Change::EdgeSet { nve: nve(), places },
        Change::EdgeUnset { nve: nve() },
        Change::OperatorRevoke {
            name: "root".parse().expect("a name"),
            reason,
        },
        Change::OperatorUnrevoke {
            name: "root".parse().expect("a name"),
        },
    ]
}

/// One message of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let id = AuditId {
        at: 7,
        tie: 1 << 40,
    };
    let requests = changes().into_iter().map(Request::Change).chain([
        Request::Server,
        Request::Vns { after: None },
        Request::Mappings {
            vn: "red".parse().expect("a name"),
            after: Some(Mac([2, 0, 0, 0, 0, 1])),
        },
        Request::Audit { before: Some(id) },
        Request::Declared { after: None },
        Request::Addresses {
            after: Some([192, 0, 2, 1].into()),
        },
        Request::Operators { after: None },
    ]);
    let mut asked = vec![FromOperator::Hello { version: PROTOCOL }];
    asked.extend(requests.map(|request| FromOperator::Request { id: 300, request }));
    let server = Server {
        name: Text::of("spiffe://lab/ima/one"),
        store: Text::of("redb"),
        revision: 9,
        uptime: LogId(77).0,
        counters: vec![(Text::of("edges"), 3)].try_into().expect("one"),
    };
    let results = [
        Ok(Response::Done { changed: true }),
        Ok(Response::Server(server)),
        Err(Denied::Conflict(Text::of("is there"))),
    ];
    let mut said = vec![
        ToOperator::Welcome,
        ToOperator::Goodbye {
            why: Text::of("bye"),
        },
    ];
    said.extend(results.map(|result| ToOperator::Response { id: 1, result }));
    let asked = asked.iter().map(encode);
    let said = said.iter().map(encode);
    asked.chain(said).filter_map(Result::ok).collect()
}

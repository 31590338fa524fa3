//! An edge with credentials of its own that says what is not so: its words, and no switch behind them.

use std::net::IpAddr;
use std::path::Path;

use tokio::runtime::Builder;
use vswitch_control::identity::{Clock, Credentials, Expect, Files, Role};
use vswitch_control::message::ima::{FromEdge, FromIma, Goodbye, PROTOCOL};
use vswitch_control::message::overlay::Endpoint as Place;
use vswitch_control::message::{decode, encode};
use vswitch_control::session::{Bytes, Endpoint, Setup};
use vswitch_control::types::BootId;

use crate::lab::{DIR, on_host};
use crate::overlay::{AUTHORITY, CONTROL};

/// From a host with a kernel of its own on the wire, edge `name` says to the authority that it is at these
/// addresses, the first of which is its control address too. Why it is sent away, if it is.
pub fn says_it_is_at(host: &str, name: &str, addresses: &[IpAddr]) -> Option<Goodbye> {
    on_host(host, || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let files = Files::in_directory(Path::new(&format!("{DIR}/pki/nve/{name}")));
            let now = Clock::system().now();
            let credentials = Credentials::load(&files, Role::Nve, now).expect("credentials");
            let setup = Setup::new(credentials.fixed(), &[]);
            let any = "0.0.0.0:0".parse().expect("an address");
            let endpoint = Endpoint::bind(any, setup).expect("a socket");
            let server = AUTHORITY.parse().expect("an address");
            let mut session = endpoint
                .dial(server, Expect::Roles(vec![Role::Ima]))
                .await
                .expect("a session");
            let hello = FromEdge::Hello {
                version: PROTOCOL,
                boot: BootId([1; 16]),
                endpoint: Place {
                    control_address: (addresses[0], CONTROL).into(),
                    tunnel_addresses: addresses.to_vec().try_into().expect("few"),
                },
            };
            let hello = Bytes::from(encode(&hello).expect("a message"));
            session.send(hello).await.expect("a session");
            let answer = session.recv().await.expect("an answer");
            match decode(&answer).expect("a message") {
                FromIma::Goodbye { why } => Some(why),
                _ => None,
            }
        })
    })
}

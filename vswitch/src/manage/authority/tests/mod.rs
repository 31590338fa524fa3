//! The thread with a real authority and real sessions; the test plays the control thread, and an edge
//! that is a member and floods.

mod lab;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use vswitch_control::hybrid::{ExchangeId, Initiator, Transcript};
use vswitch_control::identity::{Expect, Identity, Role};
use vswitch_control::message::operator::{Change, Text};
use vswitch_control::message::peer::{PeerMessage, VERSION, VnMessage};
use vswitch_control::message::{decode, encode};
use vswitch_control::pki::Ca;
use vswitch_control::session::{Bytes, Endpoint, Session};
use vswitch_control::types::{BootId, Epoch, VnName};
use vswitch_control::vnchannel::{Side, VnChannel};
use vswitch_net::rss::{Fields, Flow, PUBLISHED_KEY, Spread};

use super::driver::ORDERS;
use super::network::{Heard, IMA_HEARD, Network, PEERS_HEARD};
use crate::datapath::source_port;
use lab::{Edge, Lab, local, setup, until};

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn red() -> VnName {
    "red".parse().unwrap()
}

/// A member that speaks the protocol itself, and makes as much of it as it can.
struct Flooder {
    session: Session,
    binding: [u8; 32],
    exchanges: u128,
    epoch: Epoch,
}

impl Flooder {
    async fn dial(ca: &Ca, victim: &Edge) -> (Endpoint, Flooder) {
        let endpoint = Endpoint::bind(local(0), setup(ca, Role::Nve, "m")).unwrap();
        let identity = Identity::new(&"lab".parse().unwrap(), Role::Nve, victim.name.as_str());
        let expect = Expect::Identity(identity.unwrap());
        let session = endpoint.dial(victim.listen, expect).await.unwrap();
        let label = b"EXPORTER-vswitch-peer";
        let exported = session.export_keying_material(label, b"").unwrap();
        let flooder = Flooder {
            session,
            binding: *exported,
            exchanges: 0,
            epoch: victim.epoch().unwrap(),
        };
        let boot = BootId([7; 16]);
        let version = VERSION;
        flooder.say(&PeerMessage::Hello { version, boot }).await;
        (endpoint, flooder)
    }

    async fn say(&self, message: &PeerMessage) {
        // Its end is seen elsewhere.
        let _ = self
            .session
            .send(Bytes::from(encode(message).unwrap()))
            .await;
    }

    /// Exchange upon exchange, and under each an SA for each of 16 workers, until the session ends.
    async fn flood(&mut self) {
        let own = "spiffe://lab/nve/m";
        while let Ok(initiator) = Initiator::new() {
            self.exchanges += 1;
            let exchange = ExchangeId(self.exchanges.to_be_bytes());
            let offer = initiator.offer().clone();
            self.say(&PeerMessage::KeyRequest {
                vn: red(),
                epoch: self.epoch,
                exchange,
                offer,
            })
            .await;
            let answer = loop {
                let Some(frame) = self.session.recv().await else {
                    return;
                };
                match decode(&frame) {
                    Ok(PeerMessage::KeyResponse {
                        exchange: of,
                        answer,
                        ..
                    }) if of == exchange => {
                        break Some(answer);
                    }
                    Ok(PeerMessage::Refuse { exchange: of, .. }) if of == exchange => break None,
                    _ => {}
                }
            };
            let Some(answer) = answer else { continue };
            let vn = red();
            let transcript = Transcript {
                initiator: own,
                responder: "spiffe://lab/nve/a",
                vn: &vn,
                epoch: self.epoch,
                exchange,
                binding: &self.binding,
            };
            let root = initiator.finish(&answer, &transcript).unwrap();
            let mut channel = VnChannel::new(&root, &transcript, Side::Initiator).unwrap();
            for worker in 0..16 {
                let want = encode(&VnMessage::Want { worker }).unwrap();
                let bytes = channel.seal(&want).unwrap().try_into().unwrap();
                self.say(&PeerMessage::Sealed {
                    vn: red(),
                    exchange,
                    bytes,
                })
                .await;
            }
        }
    }
}

/// A member makes as many exchanges as it is allowed, with 16 SAs each, while the control thread does
/// not get to them. What piles up is bounded, and the authority's word that the member is revoked gets
/// through at once: its session ends, and everything of it is gone within a second.
#[test]
fn a_revocation_takes_effect_within_a_second_whatever_a_member_does() {
    let mut lab = Lab::start();
    let (a, m) = (lab.edge("a", 1), lab.edge("m", 2));
    a.knows("m");
    m.knows("a");
    // As somebody who has stolen its key would: beside the real one.
    let (_endpoint, mut flooder) = lab.runtime.block_on(Flooder::dial(&lab.ca, &a));
    let flood = lab.runtime.spawn(async move { flooder.flood().await });
    until("keys are installed", || {
        a.plane.installed.load(Ordering::Relaxed) > 100
    });
    a.plane.stalled.store(true, Ordering::Relaxed);
    until("the flood is held back", || a.shown().held > 0);
    // No more comes of it than of the messages that were taken up before that was seen.
    let most = ORDERS + 1000;
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(50));
        let orders = a.shown().orders;
        assert!(orders < most, "{orders} orders wait");
    }
    let revoke = Change::Revoke {
        nve: "m".parse().unwrap(),
        reason: Text::of("stolen"),
    };
    lab.runtime.block_on(lab.operator.change(revoke)).unwrap();
    let begin = Instant::now();
    // Though nobody takes orders.
    lab.runtime
        .block_on(async { tokio::time::timeout(PATIENCE, flood).await })
        .expect("in time")
        .unwrap();
    let closed = begin.elapsed();
    a.plane.stalled.store(false, Ordering::Relaxed);
    until("everything is gone", || {
        a.plane.open.lock().unwrap().is_empty() && a.plane.edges.lock().unwrap().is_empty()
    });
    let gone = begin.elapsed();
    println!("session closed after {closed:?}, all SAs gone after {gone:?}");
    assert!(closed < Duration::from_secs(1), "{closed:?}");
    assert!(gone < Duration::from_secs(1), "{gone:?}");
}

/// A member asks for keys for all its workers, over and over: each SA has an SPI that RSS brings to the
/// worker that owns it.
#[test]
fn rss_brings_the_packets_of_a_key_to_its_worker() {
    let lab = Lab::start();
    let by_port = Some(Fields::AddressesAndPorts);
    let table = (0..4).cycle().take(128).collect();
    let spread = Spread::new(PUBLISHED_KEY, (by_port, by_port), table).unwrap();
    let a = lab.edge_with("a", 1, 4, Some(spread.clone()));
    let m = lab.edge("m", 2);
    a.knows("m");
    m.knows("a");
    let (_endpoint, mut flooder) = lab.runtime.block_on(Flooder::dial(&lab.ca, &a));
    let flood = lab.runtime.spawn(async move { flooder.flood().await });
    until("keys are installed", || {
        a.plane.installed.load(Ordering::Relaxed) > 50
    });
    let open = a.plane.open.lock().unwrap().clone();
    flood.abort();
    assert!(open.len() >= 16, "{open:?}");
    for (spi, worker) in open {
        let flow = Flow {
            src: [192, 0, 2, 2].into(),
            dst: [192, 0, 2, 1].into(),
            src_port: source_port(spi.get()),
            dst_port: 4500,
        };
        assert_eq!(spread.queue(&flow), Some(worker), "{spi}");
    }
    assert_eq!(a.shown().keys.unsteered, 0);
}

/// What other edges say fills their queue; the authority's word does not wait behind it.
#[test]
fn the_authority_has_a_queue_of_its_own() {
    let lab = Lab::start();
    let a = lab.edge("a", 1);
    until("a session with the authority", || a.epoch().is_some());
    drop(a);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let endpoint = Arc::new(Endpoint::bind(local(0), setup(&lab.ca, Role::Nve, "a")).unwrap());
        let (ima, mut ima_heard) = mpsc::channel(IMA_HEARD);
        let (peers, _peers_heard) = mpsc::channel(PEERS_HEARD);
        let network = Network {
            endpoint,
            ima,
            peers,
            paces: Arc::default(),
        };
        while network
            .peers
            .try_send(Heard::NoPeer("m".parse().unwrap(), 0, String::new()))
            .is_ok()
        {}
        network.dial_ima(1, lab.at);
        let heard = tokio::time::timeout(PATIENCE, ima_heard.recv()).await;
        let heard = heard.expect("in time").expect("something");
        assert!(matches!(heard, Heard::Ima(1, _)), "{heard:?}");
    });
}

/// A host that was suspended for longer than the lease: when it wakes, the network is left before the
/// authority has said a word, though the process's timers saw nothing of that time.
#[test]
fn a_lease_ends_while_the_host_is_suspended() {
    let mut lab = Lab::start();
    let (a, _m) = (lab.edge("a", 1), lab.edge("m", 2));
    a.knows("m");
    let state = |edge: &Edge| edge.shown().vns.first().map(|vn| vn.state.clone());
    lab.stop_server();
    until("the authority is away", || {
        state(&a).as_deref() == Some("joined before")
    });
    // Less than the lease: nothing happens.
    a.wake_behind(1800);
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        assert!(!a.plane.edges.lock().unwrap().is_empty());
        std::thread::sleep(Duration::from_millis(20));
    }
    a.wake_behind(1800);
    let begin = Instant::now();
    until("the network is left", || {
        a.plane.edges.lock().unwrap().is_empty()
    });
    let took = begin.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    // What is shown follows.
    until("it is shown", || {
        state(&a).as_deref() != Some("joined before")
    });
}

//! The loop: whatever comes from sessions, the control thread, the operator or the clock goes into
//! the state machines, and what they want is done.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use vswitch_control::client::{self, Client, Settings};
use vswitch_control::identity::{Identity, Watcher};
use vswitch_control::keying::{self, Keying, SessionId};
use vswitch_control::message::ima::EXPORTER_LABEL;
use vswitch_control::message::overlay::{Endpoint as Reached, Protection};
use vswitch_control::message::{Bounded, encode};
use vswitch_control::session::{Endpoint, Handle, SendError};
use vswitch_control::types::{BootId, NveName, VnName};

use super::StartError;
use super::members::Members;
use super::network::{Attempt, HEARD, Heard, Network};
use super::steering::Steering;
use crate::manage::config::Config;
use crate::manage::edge::overlay::{Order, Overlay};
use crate::manage::status::Report;

/// Label of the exporter value (RFC 8446, section 7.5) that binds key exchanges between edges to
/// their session.
const PEER_BINDING: &[u8] = b"EXPORTER-vswitch-peer";
/// Two sessions that begin within this were dialled by both at once; otherwise the newer one is
/// that of an edge that came back.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Before another try to send or order what there was no room for.
const SOON: Duration = Duration::from_millis(5);
/// What is heard, noticed or asked is taken up by so many before deadlines are looked at again.
const AT_A_TIME: usize = 64;
/// How often what is shown of the authority is renewed.
const SHOWN: Duration = Duration::from_millis(500);
/// The last words to the authority may take this long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A session with another edge.
pub(super) struct PeerSession {
    pub number: u64,
    pub handle: Handle,
    pub dialled: bool,
    pub since: Instant,
}

pub(super) struct Driver {
    pub(super) me: NveName,
    pub(super) identity: Identity,
    pub(super) watcher: Watcher,
    pub(super) client: Client,
    pub(super) keying: Keying,
    pub(super) steering: Steering,
    pub(super) members: Members,
    /// Of the networks that this edge is on.
    pub(super) protections: BTreeMap<VnName, Protection>,
    pub(super) network: Network,
    heard: mpsc::Receiver<Heard>,
    overlay: Overlay,
    /// Orders that wait for room.
    pub(super) orders: Vec<Order>,
    began: Instant,
    ima: Option<Handle>,
    attempt: Attempt,
    /// Messages to the authority that wait for room.
    outgoing: VecDeque<Bytes>,
    /// Why the last session with the authority ended or did not begin.
    pub(super) ima_trouble: Option<String>,
    pub(super) peers: HashMap<NveName, PeerSession>,
    dialling: HashSet<NveName>,
    numbers: Arc<AtomicU64>,
}

impl Driver {
    pub(super) fn new(
        config: &Config,
        overlay: Overlay,
        identity: &Identity,
        watcher: Watcher,
        endpoint: Arc<Endpoint>,
    ) -> Result<Driver, StartError> {
        let wanted = config.authority.as_ref().ok_or(StartError::None)?;
        let me: NveName = config.name.parse()?;
        let mut random = [0; 16 + 8 + 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|error| StartError::Random(error.into()))?;
        let (boot, seeds) = random.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        let boot = BootId(*boot);
        let mut seeds = seeds
            .as_chunks::<8>()
            .0
            .iter()
            .copied()
            .map(u64::from_ne_bytes);
        let local: Vec<IpAddr> = config.underlay.local.clone();
        let many = local.len();
        let tunnel_addresses = Bounded::try_from(local).map_err(|_| StartError::Addresses(many))?;
        let settings = Settings {
            name: me.clone(),
            identity: identity.to_string(),
            boot,
            endpoint: Reached {
                tunnel_addresses,
                control_address: wanted.listen,
            },
            servers: wanted.servers.clone(),
            always_stop: wanted.lease_end == crate::manage::config::LeaseEnd::Stop,
            queries: wanted.queries,
            port_queries: wanted.port_queries,
            seed: seeds.next().unwrap_or_default(),
        };
        let rekey = Duration::from_secs(wanted.rekey.into());
        let max_sas = usize::try_from(wanted.max_sas).unwrap_or(usize::MAX);
        let keys = keying::Config {
            domain: identity.domain().to_string(),
            rekey_after: rekey,
            rekey_jitter: rekey / 10,
            max_sas,
            ample_sas: max_sas / 4 * 3,
            ..keying::Config::default()
        };
        let steering = Steering::default();
        steering.follow(config, overlay.workers);
        let (sender, heard) = mpsc::channel(HEARD);
        Ok(Driver {
            client: Client::new(settings, Duration::ZERO),
            keying: Keying::new(
                keys,
                me.clone(),
                boot,
                seeds.next().unwrap_or_default(),
                Box::new(steering.clone()),
            ),
            me,
            identity: identity.clone(),
            watcher,
            steering,
            members: Members::default(),
            protections: BTreeMap::new(),
            network: Network {
                endpoint,
                heard: sender,
            },
            heard,
            overlay,
            orders: Vec::new(),
            began: Instant::now(),
            ima: None,
            attempt: 0,
            outgoing: VecDeque::new(),
            ima_trouble: None,
            peers: HashMap::new(),
            dialling: HashSet::new(),
            numbers: Arc::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn workers(&self) -> u16 {
        self.overlay.workers
    }

    pub(super) async fn run(
        mut self,
        mut asked: mpsc::Receiver<oneshot::Sender<Report>>,
        mut stopped: oneshot::Receiver<()>,
    ) {
        let accepting = self.accept();
        let mut shown = tokio::time::interval(SHOWN);
        loop {
            self.act();
            let deadline = tokio::time::Instant::from_std(self.deadline());
            tokio::select! {
                _ = &mut stopped => break,
                heard = self.heard.recv() => {
                    let mut next = heard;
                    for _ in 0..AT_A_TIME {
                        let Some(heard) = next else { break };
                        self.hear(heard);
                        next = self.heard.try_recv().ok();
                    }
                    // What was taken out beyond the last is not lost.
                    if let Some(heard) = next {
                        self.hear(heard);
                    }
                }
                notice = self.overlay.notices.recv() => match notice {
                    Some(notice) => {
                        self.noticed(notice);
                        for _ in 0..AT_A_TIME {
                            let Ok(notice) = self.overlay.notices.try_recv() else { break };
                            self.noticed(notice);
                        }
                    }
                    // The control thread is gone, and with it everything to do.
                    None => break,
                },
                Some(answer) = asked.recv() => {
                    let _ = answer.send(self.report());
                }
                _ = shown.tick() => {
                    self.overlay.shown.send_replace(Some(Arc::new(self.ima())));
                }
                () = tokio::time::sleep_until(deadline) => {}
            }
            let now = self.now();
            self.client.poll(now);
            self.keying.handle_timeout(now);
        }
        accepting.abort();
        self.say_goodbye().await;
    }

    /// Takes sessions that other edges open.
    fn accept(&self) -> tokio::task::JoinHandle<()> {
        let (network, numbers) = (self.network.clone(), Arc::clone(&self.numbers));
        tokio::spawn(async move {
            while let Some(session) = network.endpoint.accept().await {
                network.take_peer(session, numbers.fetch_add(1, Ordering::Relaxed));
            }
        })
    }

    fn deadline(&self) -> Instant {
        let waits = !self.orders.is_empty() || !self.outgoing.is_empty();
        let soon = waits.then(|| self.now() + SOON);
        let machines = self
            .client
            .deadline()
            .into_iter()
            .chain(self.keying.next_timeout());
        let next = machines.chain(soon).min();
        // Looked at once a minute in any case.
        self.began + next.unwrap_or_else(|| self.now() + Duration::from_secs(60))
    }

    /// Does what the machines want, until they want nothing.
    fn act(&mut self) {
        loop {
            let outputs: Vec<client::Output> = self.client.outputs().collect();
            let mut idle = outputs.is_empty();
            for output in outputs {
                self.client_wants(output);
            }
            while let Some(output) = self.keying.poll() {
                idle = false;
                self.keying_wants(output);
            }
            if idle {
                break;
            }
        }
        self.send_outgoing();
        if !self.orders.is_empty() {
            let orders = std::mem::take(&mut self.orders);
            if let Err(full) = self.overlay.orders.try_send(orders) {
                self.orders = full.into_inner();
            }
        }
    }

    fn client_wants(&mut self, output: client::Output) {
        match output {
            client::Output::Connect(at) => {
                self.attempt += 1;
                self.network.dial_ima(self.attempt, at);
            }
            client::Output::Send(message) => match encode(&*message) {
                Ok(bytes) => self.outgoing.push_back(bytes.into()),
                Err(error) => tracing::error!(%error, "a message to the authority is none"),
            },
            client::Output::Close(why) => {
                // What this session still brings is nobody's.
                self.attempt += 1;
                self.outgoing.clear();
                self.ima_trouble = Some(why.to_owned());
                if let Some(handle) = self.ima.take() {
                    handle.close(why);
                }
            }
            client::Output::Event(event) => self.client_event(event),
        }
    }

    fn send_outgoing(&mut self) {
        let Some(handle) = &self.ima else {
            return;
        };
        while let Some(bytes) = self.outgoing.pop_front() {
            match handle.try_send(bytes.clone()) {
                Ok(()) => {}
                Err(SendError::Full) => {
                    self.outgoing.push_front(bytes);
                    return;
                }
                // Its end is heard soon.
                Err(_) => self.outgoing.clear(),
            }
        }
    }

    fn hear(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Ima(attempt, handle) if attempt == self.attempt => {
                let server = handle.peer().to_string();
                match handle.export_keying_material(EXPORTER_LABEL, b"") {
                    Some(binding) => {
                        tracing::info!(%server, at = %handle.remote_address(), "authority connected");
                        self.ima_trouble = None;
                        self.outgoing.clear();
                        self.ima = Some(handle);
                        self.client.connected(now, &server, binding.as_slice());
                    }
                    None => handle.close("no exporter value"),
                }
            }
            Heard::Ima(_, handle) => handle.close("given up"),
            Heard::ImaMessage(attempt, bytes) if attempt == self.attempt => {
                match vswitch_control::message::decode(&bytes) {
                    Ok(message) => self.client.received(now, message),
                    Err(error) => {
                        tracing::warn!(%error, "the authority's message cannot be read");
                        if let Some(handle) = self.ima.take() {
                            handle.close("a message that is none");
                        }
                    }
                }
            }
            Heard::ImaMessage(..) => {}
            Heard::ImaGone(attempt, why) if attempt == self.attempt => {
                if self.ima_trouble.as_deref() != Some(&why) {
                    tracing::warn!(%why, "no session with the authority");
                }
                self.ima_trouble = Some(why);
                self.ima = None;
                self.outgoing.clear();
                self.client.disconnected(now);
            }
            Heard::ImaGone(..) => {}
            Heard::Peer(name, number, handle, dialled) => {
                self.peer_opened(now, name, number, handle, dialled);
            }
            Heard::PeerMessage(peer, number, bytes) => {
                if self.peers.get(&peer).is_some_and(|s| s.number == number) {
                    let message = keying::Event::Message {
                        peer,
                        session: SessionId(number),
                        bytes: bytes.into(),
                    };
                    self.keying.handle(now, message);
                }
            }
            Heard::PeerGone(peer, number) => {
                if self.peers.get(&peer).is_some_and(|s| s.number == number) {
                    self.peers.remove(&peer);
                    let session = SessionId(number);
                    let down = keying::Event::SessionDown { peer, session };
                    self.keying.handle(now, down);
                }
            }
            Heard::NoPeer(peer, why) => {
                tracing::debug!(%peer, %why, "no session with the edge");
                self.dialling.remove(&peer);
            }
        }
    }

    /// A session with another edge. Of two that both dialled at once, both keep the one that the
    /// smaller name dialled; else the newer stays.
    fn peer_opened(
        &mut self,
        now: Duration,
        peer: NveName,
        number: u64,
        handle: Handle,
        dialled: bool,
    ) {
        if dialled {
            self.dialling.remove(&peer);
        }
        let by_smaller = |dialled: bool| dialled == (self.me < peer);
        if let Some(known) = self.peers.get(&peer) {
            let at_once = known.since.elapsed() < AT_ONCE && known.dialled != dialled;
            if at_once && by_smaller(known.dialled) {
                return handle.close("both dialled, the other stays");
            }
            known.handle.close("another session of the same edge");
        }
        let Some(binding) = handle.export_keying_material(PEER_BINDING, b"") else {
            return handle.close("no exporter value");
        };
        let session = PeerSession {
            number,
            handle,
            dialled,
            since: Instant::now(),
        };
        self.peers.insert(peer.clone(), session);
        let up = keying::Event::SessionUp {
            peer,
            session: SessionId(number),
            binding: *binding,
        };
        self.keying.handle(now, up);
    }

    /// A session with another edge is wished for.
    pub(super) fn connect(&mut self, peer: NveName) {
        if self.peers.contains_key(&peer) || self.dialling.contains(&peer) {
            return;
        }
        let Some(endpoint) = self.members.endpoint(&peer) else {
            return;
        };
        let role = vswitch_control::identity::Role::Nve;
        let Ok(identity) = Identity::new(self.identity.domain(), role, peer.as_str()) else {
            return;
        };
        let at = endpoint.control_address;
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        self.dialling.insert(peer.clone());
        self.network.dial_peer(peer, identity, at, number);
    }

    /// Sends to another edge. One that takes nothing loses its session, and begins anew.
    pub(super) fn send(&mut self, peer: &NveName, session: SessionId, bytes: Vec<u8>) {
        let Some(known) = self.peers.get(peer).filter(|s| s.number == session.0) else {
            return;
        };
        if let Err(error) = known.handle.try_send(bytes.into()) {
            tracing::debug!(%peer, %error, "session closed");
            known.handle.close("what is sent is not taken");
        }
    }

    /// Closes a session with another edge.
    pub(super) fn close(&mut self, peer: &NveName, session: SessionId) {
        if let Some(known) = self.peers.get(peer).filter(|s| s.number == session.0) {
            known.handle.close("the protocol was not kept");
        }
    }

    /// Leaves all networks, so that nobody sends to ports that are gone.
    async fn say_goodbye(mut self) {
        let now = self.now();
        self.client.want(now, BTreeMap::new());
        self.act();
        let Driver {
            network,
            mut heard,
            ima,
            ..
        } = self;
        if let Some(handle) = ima {
            handle.finish("the edge stops");
            let _ = tokio::time::timeout(LAST_WORDS, handle.closed()).await;
        }
        heard.close();
        let close = network.endpoint.close("the edge stops");
        let _ = tokio::time::timeout(LAST_WORDS, close).await;
    }
}

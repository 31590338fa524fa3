//! The loop: whatever comes from sessions, the control thread, the operator or the clock goes into
//! the state machines, and what they want is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use vswitch_control::client::{self, Client, Settings};
use vswitch_control::identity::{Identity, Watcher};
use vswitch_control::keying::{self, Keying};
use vswitch_control::meetings::Meetings;
use vswitch_control::message::overlay::{Endpoint as Reached, Protection};
use vswitch_control::message::{Bounded, encode};
use vswitch_control::session::{Endpoint, Handle, SendError};
use vswitch_control::types::{BootId, NveName, VnName};

use super::StartError;
use super::members::Members;
use super::network::{Attempt, GiveUp, Heard, IMA_HEARD, Network, PEERS_HEARD};
use super::steering::Steering;
use crate::manage::config::Config;
use crate::manage::edge::overlay::{Order, Overlay};
use crate::manage::status::Report;

/// Before another try to send or order what there was no room for.
const SOON: Duration = Duration::from_millis(5);
/// What is heard, noticed or asked is taken up by so many before deadlines are looked at again.
const AT_A_TIME: usize = 64;
/// Orders that wait for room, above which other edges are not read: who floods feels it, and what
/// the authority says is done soon whatever they say.
pub(super) const ORDERS: usize = 4096;
/// How often what is shown of the authority is renewed.
const SHOWN: Duration = Duration::from_millis(500);
/// The last words to the authority may take this long.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Time since the start, that of suspensions included: leases and keys end by it.
pub(super) type Elapsed = Box<dyn Fn() -> Duration + Send>;

pub(super) struct Driver {
    pub(super) me: NveName,
    pub(super) identity: Identity,
    pub(super) watcher: Watcher,
    pub(super) client: Client,
    pub(super) keying: Keying,
    pub(super) steering: Steering,
    /// `authority.max-sas`.
    pub(super) max_sas: usize,
    pub(super) members: Members,
    /// Of the networks that this edge is on.
    pub(super) protections: BTreeMap<VnName, Protection>,
    pub(super) network: Network,
    /// From the authority, and from other edges: none of theirs is before one of its.
    ima_heard: mpsc::Receiver<Heard>,
    peers_heard: mpsc::Receiver<Heard>,
    overlay: Overlay,
    /// Orders that wait for room.
    pub(super) orders: Vec<Order>,
    /// Whether other edges are not read now because of them, and how often that was so.
    held: bool,
    pub(super) held_times: u64,
    clock: Elapsed,
    pub(super) ima: Option<Handle>,
    pub(super) attempt: Attempt,
    /// Messages to the authority that wait for room.
    pub(super) outgoing: VecDeque<Bytes>,
    /// Why the last session with the authority ended or did not begin.
    pub(super) ima_trouble: Option<String>,
    pub(super) meetings: Meetings,
    /// Of sessions with other edges, by number.
    pub(super) handles: HashMap<u64, Handle>,
    /// Of dials to them; one that is dropped is given up.
    pub(super) dials: HashMap<u64, GiveUp>,
    /// Why there is no session with an edge, of those where one was wished for.
    pub(super) troubles: HashMap<NveName, String>,
    pub(super) numbers: Arc<AtomicU64>,
}

impl Driver {
    pub(super) fn new(
        config: &Config,
        overlay: Overlay,
        identity: &Identity,
        watcher: Watcher,
        endpoint: Arc<Endpoint>,
        clock: Elapsed,
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
            hard_after: Duration::from_secs(wanted.rekey_limit.into()),
            max_sas,
            ample_sas: max_sas - max_sas / 4,
            ..keying::Config::default()
        };
        let spreads = overlay.spreads.clone();
        let steering = Steering::new(config, overlay.workers, spreads);
        let (ima, ima_heard) = mpsc::channel(IMA_HEARD);
        let (peers, peers_heard) = mpsc::channel(PEERS_HEARD);
        Ok(Driver {
            client: Client::new(settings, Duration::ZERO),
            keying: Keying::new(
                keys,
                me.clone(),
                boot,
                seeds.next().unwrap_or_default(),
                Box::new(steering.clone()),
            ),
            meetings: Meetings::new(me.clone()),
            me,
            identity: identity.clone(),
            watcher,
            steering,
            max_sas,
            members: Members::default(),
            protections: BTreeMap::new(),
            network: Network {
                endpoint,
                ima,
                peers,
                paces: Arc::default(),
            },
            ima_heard,
            peers_heard,
            overlay,
            orders: Vec::new(),
            held: false,
            held_times: 0,
            clock,
            ima: None,
            attempt: 0,
            outgoing: VecDeque::new(),
            ima_trouble: None,
            handles: HashMap::new(),
            dials: HashMap::new(),
            troubles: HashMap::new(),
            numbers: Arc::default(),
        })
    }

    pub(super) fn now(&self) -> Duration {
        (self.clock)()
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
            self.hold();
            let wait = self.wait();
            tokio::select! {
                _ = &mut stopped => break,
                Some(heard) = self.ima_heard.recv() => self.hear(heard),
                Some(heard) = self.peers_heard.recv(), if !self.held => {
                    self.hear(heard);
                    for _ in 0..AT_A_TIME {
                        let Ok(heard) = self.peers_heard.try_recv() else { break };
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
                () = tokio::time::sleep(wait) => {}
            }
            // Whatever else there is, the authority is heard in each turn.
            for _ in 0..AT_A_TIME {
                let Ok(heard) = self.ima_heard.try_recv() else {
                    break;
                };
                self.hear(heard);
            }
            let now = self.now();
            self.client.poll(now);
            self.keying.handle_timeout(now);
        }
        accepting.abort();
        self.say_goodbye().await;
    }

    /// Other edges are read as long as what follows from it finds room.
    fn hold(&mut self) {
        let held = self.orders.len() >= ORDERS;
        if held && !self.held {
            self.held_times += 1;
            tracing::debug!(
                orders = self.orders.len(),
                "other edges are not read for now"
            );
        }
        self.held = held;
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

    /// Until something is due. Timers stand still while the host is suspended and `now` does not: what
    /// came due meanwhile is seen by the next turn, at most [`SHOWN`] later.
    fn wait(&self) -> Duration {
        let now = self.now();
        let waits = !self.orders.is_empty() || !self.outgoing.is_empty();
        let soon = waits.then(|| now + SOON);
        let machines = self
            .client
            .deadline()
            .into_iter()
            .chain(self.keying.next_timeout());
        let next = machines.chain(soon).min();
        // Looked at once a minute in any case.
        next.map_or(Duration::from_secs(60), |next| next.saturating_sub(now))
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

    /// Leaves all networks, so that nobody sends to ports that are gone.
    async fn say_goodbye(mut self) {
        let now = self.now();
        self.client.want(now, BTreeMap::new());
        self.act();
        let Driver {
            network,
            ima_heard,
            peers_heard,
            ima,
            ..
        } = self;
        if let Some(handle) = ima {
            handle.finish("the edge stops");
            let _ = tokio::time::timeout(LAST_WORDS, handle.closed()).await;
        }
        drop((ima_heard, peers_heard));
        let close = network.endpoint.close("the edge stops");
        let _ = tokio::time::timeout(LAST_WORDS, close).await;
    }
}

//! Stories with few edges, told step by step. The attacker here speaks the protocol itself: its
//! sessions, exchanges and channels are right, only what it says is not.

mod aging;
mod lies;
mod life;
mod load;
mod members;

use std::time::Duration;

use super::sim::ms;
use super::{Config, Event, Keying, Output, Report, SessionId, Steering};
use crate::hybrid::{ExchangeId, Initiator, Transcript};
use crate::message::peer::{PeerMessage, Refusal, SaAlgorithm, VERSION, VnMessage};
use crate::message::{decode, encode};
use crate::types::{BootId, Epoch, NveName, VnName};
use crate::vnchannel::{Side, VnChannel};

struct AnySpi;

impl Steering for AnySpi {
    fn owner(&self, _: &VnName, _: &NveName, _: u16) -> u16 {
        0
    }

    fn free(&self, _: u32) -> bool {
        true
    }

    fn steers(&self, _: &NveName, _: u32, _: u16) -> bool {
        true
    }
}

fn nve(name: &str) -> NveName {
    name.parse().unwrap()
}

fn vn(name: &str) -> VnName {
    name.parse().unwrap()
}

/// The edge `b`, in `red` with `a` and `m`, in `blue` with `a` alone.
struct Victim {
    keying: Keying,
    now: Duration,
    next_session: u64,
    /// Orders for the data plane, none of which has been answered.
    orders: Vec<Output>,
    /// Messages of the last event, decoded.
    said: Vec<PeerMessage>,
    reports: Vec<Report>,
    closed: usize,
}

impl Victim {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let keying = Keying::new(config, nve("b"), BootId([2; 16]), 7, Box::new(AnySpi));
        let mut victim = Self {
            keying,
            now: ms(1000),
            next_session: 1,
            orders: Vec::new(),
            said: Vec::new(),
            reports: Vec::new(),
            closed: 0,
        };
        victim.members("red", 10, &["a", "b", "m"]);
        victim.members("blue", 5, &["a", "b"]);
        victim
    }

    fn members(&mut self, name: &str, epoch: u64, members: &[&str]) {
        self.give(Event::Members {
            vn: vn(name),
            epoch: Epoch(epoch),
            algorithm: SaAlgorithm::Aes256Gcm,
            members: members.iter().map(|name| nve(name)).collect(),
        });
    }

    fn give(&mut self, event: Event) {
        self.keying.handle(self.now, event);
        self.collect();
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.keying.handle_timeout(self.now);
        self.collect();
    }

    fn collect(&mut self) {
        self.said.clear();
        while let Some(output) = self.keying.poll() {
            match output {
                Output::Send { bytes, .. } => self.said.push(decode(&bytes).unwrap()),
                Output::Close { .. } => self.closed += 1,
                Output::Connect { .. } => {}
                Output::Report(report) => self.reports.push(report),
                order => self.orders.push(order),
            }
        }
    }

    /// Answers every order, as a data plane that can do all of it. What is said is said to that.
    fn carry_out(&mut self) {
        let mut said = Vec::new();
        for order in core::mem::take(&mut self.orders) {
            if let Output::InstallInbound { id, .. } | Output::InstallOutbound { id, .. } = order {
                self.give(Event::Installed { id });
                said.append(&mut self.said);
            }
        }
        self.said = said;
    }

    fn need(&mut self, peer: &str, worker: u16) {
        self.give(Event::Need {
            vn: vn("red"),
            peer: nve(peer),
            worker,
        });
    }

    fn refusals(&self) -> Vec<Refusal> {
        let said = self.said.iter();
        said.filter_map(|message| match message {
            PeerMessage::Refuse { why, .. } => Some(*why),
            _ => None,
        })
        .collect()
    }

    fn spis(&self, peer: &str) -> Vec<u32> {
        let sas = self.keying.sas();
        let sas = sas.filter(|sa| sa.peer == nve(peer));
        sas.map(|sa| sa.spi).collect()
    }
}

/// A peer that says what it wants to.
struct Speaker {
    name: String,
    /// About which VN it speaks, and of which epoch.
    network: (VnName, u64),
    session: SessionId,
    binding: [u8; 32],
    channel: Option<(ExchangeId, VnChannel)>,
}

impl Speaker {
    fn greet(victim: &mut Victim, name: &str) -> Self {
        let session = SessionId(victim.next_session);
        victim.next_session += 1;
        let binding = [9; 32];
        victim.give(Event::SessionUp {
            peer: nve(name),
            session,
            binding,
        });
        let speaker = Self {
            name: name.to_owned(),
            network: (vn("red"), 10),
            session,
            binding,
            channel: None,
        };
        let boot = BootId([1; 16]);
        let version = VERSION;
        speaker.say(victim, &PeerMessage::Hello { version, boot });
        speaker
    }

    fn say(&self, victim: &mut Victim, message: &PeerMessage) {
        self.say_bytes(victim, encode(message).unwrap());
    }

    fn say_bytes(&self, victim: &mut Victim, bytes: Vec<u8>) {
        victim.give(Event::Message {
            peer: nve(&self.name),
            session: self.session,
            bytes,
        });
    }

    fn request(&self, victim: &mut Victim, name: &str, epoch: u64, id: u8) -> Initiator {
        let initiator = Initiator::new().unwrap();
        let request = PeerMessage::KeyRequest {
            vn: vn(name),
            epoch: Epoch(epoch),
            exchange: ExchangeId([id; 16]),
            offer: initiator.offer().clone(),
        };
        self.say(victim, &request);
        initiator
    }

    /// An exchange for its network, as it should be. What the victim said under it.
    fn exchange(&mut self, victim: &mut Victim, id: u8) -> Vec<VnMessage> {
        let (network, epoch) = self.network.clone();
        let initiator = self.request(victim, network.as_str(), epoch, id);
        let answer = victim.said.iter().find_map(|message| match message {
            PeerMessage::KeyResponse { answer, .. } => Some(answer.clone()),
            _ => None,
        });
        let own = format!("spiffe://localdomain/nve/{}", self.name);
        let transcript = Transcript {
            initiator: &own,
            responder: "spiffe://localdomain/nve/b",
            vn: &network,
            epoch: Epoch(epoch),
            exchange: ExchangeId([id; 16]),
            binding: &self.binding,
        };
        let root = initiator.finish(&answer.unwrap(), &transcript).unwrap();
        let channel = VnChannel::new(&root, &transcript, Side::Initiator).unwrap();
        self.channel = Some((ExchangeId([id; 16]), channel));
        self.heard(victim)
    }

    /// What the victim last said under the exchange.
    fn heard(&mut self, victim: &Victim) -> Vec<VnMessage> {
        let (id, channel) = self.channel.as_mut().unwrap();
        let said = victim.said.iter();
        said.filter_map(|message| match message {
            PeerMessage::Sealed {
                exchange, bytes, ..
            } if exchange == id => Some(decode(&channel.open(bytes).unwrap()).unwrap()),
            _ => None,
        })
        .collect()
    }

    fn tell(&mut self, victim: &mut Victim, message: &VnMessage) -> Vec<VnMessage> {
        let (exchange, channel) = self.channel.as_mut().unwrap();
        let bytes = channel.seal(&encode(message).unwrap()).unwrap();
        let message = PeerMessage::Sealed {
            vn: self.network.0.clone(),
            exchange: *exchange,
            bytes: bytes.try_into().unwrap(),
        };
        self.say(victim, &message);
        self.heard(victim)
    }

    /// Has the victim install an SA from here, and uses it.
    fn sending(&mut self, victim: &mut Victim, worker: u16) -> u32 {
        let heard = self.tell(victim, &VnMessage::Want { worker });
        let [VnMessage::Offer { spi, .. }] = heard[..] else {
            panic!("{heard:?}");
        };
        victim.carry_out();
        assert_eq!(self.heard(victim), [VnMessage::Installed { spi }]);
        self.tell(victim, &VnMessage::Switched { spi });
        spi
    }
}

//! Edges that agree on keys, driven by hand: what a `Keying` orders is done at once, as by a data plane
//! that takes no time, and what it has to say goes where the caller says.

use std::time::Duration;

use vswitch_control::keying::{Config, Event, Keying, Output, SessionId, Steering};
use vswitch_control::message::peer::SaAlgorithm;
use vswitch_control::types::{BootId, Epoch, NveName, VnName};

use super::lab::DOMAIN;
use super::overlay::{edge_name, vn_name};

/// A data plane with one worker: RSS brings everything to it.
struct OneWorker;

impl Steering for OneWorker {
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

/// What comes out of an edge.
pub enum Out {
    /// A message for a peer.
    Message(NveName, Vec<u8>),
    /// An outbound SA was installed: the peer had its end before.
    Sending(VnName),
    /// An inbound SA was installed.
    Receiving,
}

/// One edge's state machine.
pub struct Edge {
    pub name: NveName,
    pub keying: Keying,
}

impl Edge {
    /// The edge of this number, in no network. Its rates and times are such that they limit nothing.
    pub fn new(number: usize) -> anyhow::Result<Self> {
        let config = Config {
            domain: DOMAIN.to_owned(),
            requests_per_second: u32::MAX,
            requests_under_way: usize::MAX,
            new_pairs_per_second: u32::MAX,
            max_sas: usize::MAX,
            ample_sas: usize::MAX,
            workers_per_pair: 64,
            // Hundreds are begun at once; who waits for their turn has not failed.
            answer_timeout: Duration::from_secs(60),
            ..Config::default()
        };
        let name = edge_name(number)?;
        let boot = BootId(fastrand::u128(..).to_be_bytes());
        let steering = Box::new(OneWorker);
        let keying = Keying::new(config, name.clone(), boot, fastrand::u64(..), steering);
        Ok(Edge { name, keying })
    }

    /// Into a network with others, whatever their order.
    pub fn join(&mut self, vn: usize, members: &[NveName]) -> anyhow::Result<()> {
        let event = Event::Members {
            vn: vn_name(vn)?,
            epoch: Epoch(1),
            algorithm: SaAlgorithm::Aes256Gcm,
            members: members.iter().cloned().collect(),
        };
        self.keying.handle(Duration::ZERO, event);
        Ok(())
    }

    /// A session with a peer is there.
    pub fn up(&mut self, now: Duration, peer: &NveName, session: u64, binding: [u8; 32]) {
        let (peer, session) = (peer.clone(), SessionId(session));
        let event = Event::SessionUp {
            peer,
            session,
            binding,
        };
        self.keying.handle(now, event);
    }

    /// A message has come.
    pub fn message(&mut self, now: Duration, peer: &NveName, session: u64, bytes: Vec<u8>) {
        let (peer, session) = (peer.clone(), SessionId(session));
        let event = Event::Message {
            peer,
            session,
            bytes,
        };
        self.keying.handle(now, event);
    }

    /// A worker needs an SA.
    pub fn need(&mut self, now: Duration, vn: VnName, peer: &NveName, worker: u16) {
        let peer = peer.clone();
        self.keying.handle(now, Event::Need { vn, peer, worker });
    }

    /// Does what is due and what is ordered; `out` gets the rest. Keys are destroyed.
    pub fn pump(
        &mut self,
        now: Duration,
        mut out: impl FnMut(Out) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        self.keying.handle_timeout(now);
        while let Some(output) = self.keying.poll() {
            match output {
                Output::Send { peer, bytes, .. } => out(Out::Message(peer, bytes))?,
                Output::InstallInbound { id, .. } => {
                    self.keying.handle(now, Event::Installed { id });
                    out(Out::Receiving)?;
                }
                Output::InstallOutbound { id, vn, .. } => {
                    self.keying.handle(now, Event::Installed { id });
                    out(Out::Sending(vn))?;
                }
                Output::Connect { .. }
                | Output::RemoveInbound { .. }
                | Output::RemoveOutbound { .. }
                | Output::Share { .. } => {}
                Output::Close { peer, .. } => anyhow::bail!("the session with {peer} was closed"),
                Output::Report(report) => anyhow::bail!("{report:?}"),
            }
        }
        Ok(())
    }
}

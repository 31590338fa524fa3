//! Dry runs: begun in the worker that would receive the packet, carried on in those that it
//! would be handed to, answered when every copy has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vswitch_vn::PortId;
use zeroize::Zeroizing;

use super::control::Control;
use super::handle::InjectAnswer;
use crate::datapath::command::{Command, WorkerId};
use crate::datapath::observe::{Outcome, Place, Record, Rehearsal, SECRET_LEN, Start};
use crate::manage::observe::{FilterError, Inject, InjectError, Rehearsed};

/// A dry run under way.
pub(super) struct Rehearsing {
    id: u64,
    asked: Instant,
    /// Parts of it that workers have not yet answered for.
    pending: usize,
    #[allow(clippy::vec_box)] // as the workers sent them
    ended: Vec<Box<Record>>,
    no_buffer: bool,
    answer: InjectAnswer,
}

/// Bytes of a frame at most: what buffers and length fields can hold.
const MAX_FRAME: usize = 65_535;

impl Control {
    /// Begins a dry run.
    pub(super) fn rehearse(&mut self, inject: Inject, answer: InjectAnswer) {
        let (start, worker) = match self.place(inject) {
            Ok(found) => found,
            Err(error) => return answer(Err(error)),
        };
        let id = self.next_id();
        match self.send_rehearsal(id, worker, start) {
            Ok(()) => self.rehearsals.push(Rehearsing {
                id,
                asked: Instant::now(),
                pending: 1,
                ended: Vec::new(),
                no_buffer: false,
                answer,
            }),
            Err(error) => answer(Err(error)),
        }
    }

    /// Where a packet arrives, and who would receive it.
    fn place(&self, inject: Inject) -> Result<(Start, WorkerId), InjectError> {
        let Inject { port, frame } = inject;
        if frame.len() > MAX_FRAME {
            return Err(InjectError::TooLong(frame.len()));
        }
        let names = self.names();
        match names.find_port(&port) {
            Some(Place::Port(id)) => Ok((Start::Port(id, frame), self.receiver(id))),
            // Which queue a NIC would choose is the NIC's secret; whoever has the SA gets it.
            Some(Place::Underlay(id)) => Ok((Start::Underlay(id, frame), 0)),
            _ => Err(FilterError::no_port(port, &names).into()),
        }
    }

    /// A worker that receives from a port: for a tenant that is connected the first that
    /// does, else the one that would.
    fn receiver(&self, id: PortId) -> WorkerId {
        let connected = self
            .tenants
            .get(&id)
            .and_then(|tenant| tenant.workers.first().copied());
        let is_tenant = self.tenants.contains_key(&id);
        connected.unwrap_or_else(|| {
            let wanted = self.config.ports.get(id.index()).and_then(|p| p.worker);
            match wanted {
                Some(worker) => worker,
                None if is_tenant => (id.index() % self.members.len().max(1)) as WorkerId,
                // The owner of a device's first queue.
                None => 0,
            }
        })
    }

    fn send_rehearsal(&self, id: u64, worker: WorkerId, start: Start) -> Result<(), InjectError> {
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        rustix::rand::getrandom(&mut secret[..], rustix::rand::GetRandomFlags::empty())
            .map_err(|error| InjectError::Random(error.to_string()))?;
        let rehearsal = Rehearsal { id, start, secret };
        self.tell(usize::from(worker), Command::Rehearse(Box::new(rehearsal)));
        Ok(())
    }

    /// A worker has done its part.
    pub(super) fn rehearsed(&mut self, id: u64, outcome: Outcome) {
        let Some(at) = self.rehearsals.iter().position(|r| r.id == id) else {
            return;
        };
        let Outcome {
            ended,
            aside,
            no_buffer,
        } = outcome;
        let mut sent = 0;
        for aside in aside {
            let to = aside.to;
            if self.send_rehearsal(id, to, Start::Continue(aside)).is_ok() {
                sent += 1;
            }
        }
        let Some(rehearsing) = self.rehearsals.get_mut(at) else {
            return;
        };
        rehearsing.ended.extend(ended);
        rehearsing.no_buffer |= no_buffer;
        rehearsing.pending = rehearsing.pending + sent - 1;
        if rehearsing.pending > 0 {
            return;
        }
        let Rehearsing {
            mut ended,
            no_buffer,
            answer,
            ..
        } = self.rehearsals.swap_remove(at);
        if no_buffer {
            return answer(Err(InjectError::NoBuffer));
        }
        ended.sort_by_key(|record| record.ended);
        answer(Ok(Rehearsed {
            records: ended,
            names: Arc::new(self.names()),
            clock: self.clock,
        }));
    }

    /// Gives up what takes too long.
    pub(super) fn expire_rehearsals(&mut self, patience: Duration) {
        self.rehearsals.retain(|r| r.asked.elapsed() < patience);
    }
}

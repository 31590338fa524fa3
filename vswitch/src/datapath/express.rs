//! What nearly every frame is on its way into a tunnel: in one buffer with room around it, over
//! IPv4, with an SA of this worker's. Frames of one tunnel that follow one another are prepared
//! together: what the tunnel decides is looked up once. Everything else, and every frame that
//! somebody watches, goes the thorough way ([`super::encap`]), which writes the same octets.

use std::iter::Peekable;

use arrayvec::ArrayVec;
use vswitch_net::envelope::{self, Envelope};
use vswitch_net::tunnel;
use vswitch_sa as sa;

use super::command::Event;
use super::encap::Sealing;
use super::outlet::Note;
use super::probe::Probe;
use super::worker::{Gathered, SEAL_BATCH, Worker};

impl<P: Probe> Worker<P> {
    /// Prepares frames for the cipher up to the first that is unusual, which is returned as it
    /// came.
    #[inline]
    pub(super) fn express(
        &mut self,
        frames: &mut Peekable<impl Iterator<Item = Gathered>>,
        batch: &mut ArrayVec<Sealing, SEAL_BATCH>,
    ) -> Option<Gathered> {
        if P::OBSERVES || P::DRY {
            return frames.next();
        }
        while let Some(first) = frames.peek() {
            let id = first.tunnel;
            let Some(state) = self.tunnels.get(id) else {
                return frames.next();
            };
            let (Some(slot), Some(envelope)) = (state.sa, &state.envelope) else {
                return frames.next();
            };
            let Some(out) = self.sas.outbound_mut(slot) else {
                return frames.next();
            };
            let underlay = state
                .route
                .as_ref()
                .map_or(u16::MAX, |route| route.underlay);
            while let Some(mut frame) = frames.next_if(|frame| frame.tunnel == id) {
                let packet = &mut frame.packet;
                let len = packet.len();
                let payload = tunnel::HEADER_LEN + len;
                let esp = sa::sealed_len(payload);
                let behind = esp - sa::PREFIX_LEN - payload;
                if packet.grow(envelope::LEN, behind).is_err() {
                    return Some(frame);
                }
                let written = packet
                    .head_mut()
                    .first_chunk_mut()
                    .is_some_and(|head| envelope.write(head, esp, len));
                let assigned = if written {
                    out.sa.assign(payload).ok()
                } else {
                    None
                };
                let Some(assigned) = assigned else {
                    // The thorough way finds out why.
                    let _ = packet.trim_front(envelope::LEN);
                    packet.truncate(len);
                    return Some(frame);
                };
                if assigned.soft_limit_hit() {
                    let event = Event::SoftLimit(self.id, id, out.sa.spi());
                    if self.events.try_send(event).is_err() {
                        out.sa.soft_limit_unheard();
                    }
                }
                if !out.asked && out.sa.reservation_left() < out.low_water {
                    let event = Event::ReservationLow(self.id, id, out.sa.spi());
                    out.asked = self.events.try_send(event).is_ok();
                }
                Note::tunnel(id, len).put(packet);
                batch.push(Sealing {
                    packet: frame.packet,
                    tunnel: id,
                    slot,
                    assigned: Some(assigned),
                    outer: Envelope::ESP,
                    underlay,
                    checksum: false,
                });
            }
        }
        None
    }
}

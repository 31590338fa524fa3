//! That this run of the edge is on all VNs that it wants: said once, by a renewal that follows their joins. An
//! earlier run may have been on others and have ended without a word; what it left there is over with that.

/// How far that is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Arrival {
    /// Not said, or not in this session.
    #[default]
    UnderWay,
    /// With this renewal.
    Said(u64),
    /// The authority has answered.
    Heard,
}

impl Arrival {
    /// Whether it is still to be said.
    pub(super) fn is_due(self) -> bool {
        self == Self::UnderWay
    }

    /// A renewal is answered. Requests are answered in order.
    pub(super) fn heard(&mut self, renewal: u64) {
        if matches!(self, Self::Said(said) if *said <= renewal) {
            *self = Self::Heard;
        }
    }

    /// The session is gone, and with it perhaps what was said.
    pub(super) fn disconnected(&mut self) {
        if *self != Self::Heard {
            *self = Self::UnderWay;
        }
    }
}

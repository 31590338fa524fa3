//! From the record of a packet to what is captured of it: which bytes, on which interface, in
//! which direction, and what the comment says.

use std::fmt::Write;

use crate::datapath::command::WorkerId;
use crate::datapath::observe::{Bytes, Place, Record};
use crate::datapath::verdict::{Class, Verdict};
use crate::manage::observe::Names;
use vswitch_vn::{TunnelId, VnId};

/// Where the capture looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// At one port: what arrives there and what leaves there.
    Port(Place),
    /// At all underlay ports, likewise.
    Underlay,
    /// At tenants' frames, wherever they are: each once.
    Frames,
}

/// As the switch sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Into the switch.
    In,
    /// Out of it, or on its way there when it was dropped.
    Out,
}

/// What is captured of a packet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    /// The interface.
    pub place: Place,
    /// Its direction there.
    pub direction: Direction,
    /// When it passed.
    pub tsc: u64,
    /// Its bytes then.
    pub bytes: &'a Bytes,
    vn: Option<VnId>,
    tunnel: Option<TunnelId>,
    worker: WorkerId,
    verdict: Verdict,
}

impl View {
    /// Interfaces that are known from the beginning.
    pub(super) fn places(self, names: &Names) -> Vec<Place> {
        match self {
            View::Port(place) => vec![place],
            View::Underlay => (0..names.underlays.len() as u16)
                .map(Place::Underlay)
                .collect(),
            View::Frames => Vec::new(),
        }
    }

    /// What is captured of the packet, if it passed here. Its copies arrived with it, so they
    /// are captured where they leave only, unless one looks for drops: each is dropped by itself.
    pub(super) fn of(self, record: &Record, drops: bool) -> Option<Packet<'_>> {
        let first = drops || record.copy_of.is_none();
        let here = |place: Place| match self {
            View::Port(port) => place == port,
            View::Underlay => matches!(place, Place::Underlay(_)),
            View::Frames => false,
        };
        let (place, direction) = match (self, record.from, record.to) {
            (View::Frames, ..) if !first => return None,
            // Out of its tunnel.
            (View::Frames, from @ Place::Underlay(_), to) if record.frame.is_some() => match to {
                Some(to) => (to, Direction::Out),
                None => return packet(record, from, Direction::In, &record.last),
            },
            (View::Frames, Place::Switch | Place::Worker(_), to) => (to?, Direction::Out),
            (View::Frames, from, _) => (from, Direction::In),
            (_, from, _) if here(from) && first => (from, Direction::In),
            (_, from, Some(to)) if here(to) && !here(from) => (to, Direction::Out),
            _ => return None,
        };
        let bytes = match direction {
            Direction::In => &record.arrived,
            Direction::Out => &record.last,
        };
        packet(record, place, direction, bytes)
    }
}

fn packet<'a>(
    record: &Record,
    place: Place,
    direction: Direction,
    bytes: &'a Bytes,
) -> Option<Packet<'a>> {
    let tsc = match direction {
        Direction::In => record.began,
        Direction::Out => record.ended,
    };
    (bytes.len > 0).then_some(Packet {
        place,
        direction,
        tsc,
        bytes,
        vn: record.vn,
        tunnel: record.tunnel,
        worker: record.worker,
        verdict: record.verdict,
    })
}

impl Packet<'_> {
    /// What is said of it: `name=value`, to be searched for, then the verdict in words.
    pub(super) fn comment(&self, names: &Names) -> String {
        let mut text = String::with_capacity(160);
        let vn = self.vn.map_or("-", |vn| names.vn(vn));
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        let verdict = self.verdict;
        // Writing to a String cannot fail.
        let _ = write!(text, "vn={vn}");
        if let Some(tunnel) = self.tunnel {
            let _ = write!(text, " peer={}", names.peer(tunnel));
        }
        let _ = write!(
            text,
            " verdict={} worker={} direction={direction}; ",
            verdict.name(),
            self.worker
        );
        if verdict.class() == Class::Dropped {
            text.push_str("dropped: ");
        }
        text.push_str(verdict.help());
        text
    }
}

/// The interface's name in the file.
pub(super) fn interface(place: Place, names: &Names) -> String {
    match place {
        Place::Port(port) => names.port(port).to_owned(),
        Place::Underlay(port) => names.underlay(port).to_owned(),
        Place::Tap(port) => format!("{}-kernel", names.underlay(port)),
        Place::Trunk(device) => {
            let name = names.devices.get(usize::from(device));
            name.map_or("?", String::as_str).to_owned()
        }
        Place::Worker(worker) => format!("worker{worker}"),
        Place::Switch => "switch".to_owned(),
    }
}

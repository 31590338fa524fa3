//! Captures: packets that pass a place of the switch, as a pcapng file that grows.
//!
//! ```text
//! workers → Watch (bounded, counts what it loses) → this thread → chunks → whoever reads
//! ```
//!
//! `view` says which bytes of a packet's record are captured, and what is said of it, `clock`
//! what time it was, `pcapng` writes it down. A reader that is slow costs packets of the
//! capture, which are counted, and no packet of the traffic.

mod clock;
mod pcapng;
mod view;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::TryRecvError;
use serde::Deserialize;

use super::observe::{Ask, Filter, From, Watch};
use clock::WallClock;
use pcapng::Writer;
use view::View;
use vswitch_net::MacAddr;

/// Bytes of a packet that are kept at most, if not told otherwise: all.
pub const SNAPLEN: u32 = 65_535;
/// Packets that may wait to be written, if not told otherwise.
pub const BUFFER: u32 = 8192;
/// The most that may wait.
pub const MAX_BUFFER: u32 = 65_536;

/// How often the workers' records are looked for, when there were none.
const PAUSE: Duration = Duration::from_millis(5);
/// Packets taken at a time.
const BATCH: usize = 1024;
/// How often the TSC is compared with the wall clock.
const ANCHOR: Duration = Duration::from_secs(1);

/// What to capture, as a query has it. Without a port and `underlay`, each frame of a tenant
/// once: as it came from the tenant, or out of its tunnel.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Capture {
    /// What passes this port, as it passes.
    pub port: Option<String>,
    /// What passes the underlay's ports, as it passes: sealed.
    pub underlay: bool,
    /// Only packets that came from there.
    pub from: Option<From>,
    /// Only packets of this VN.
    pub vn: Option<String>,
    /// Only packets from or to this MAC.
    pub mac: Option<MacAddr>,
    /// Only packets from or to this IP address.
    pub ip: Option<std::net::IpAddr>,
    /// Only packets of this protocol.
    pub proto: Option<String>,
    /// Only packets from or to this port of TCP or UDP.
    pub l4_port: Option<u16>,
    /// Only packets of this EtherType.
    pub ethertype: Option<u16>,
    /// Only packets dropped for this reason, or `any`.
    pub drop: Option<String>,
    /// Bytes of each packet to keep, 1 to [`SNAPLEN`].
    pub snaplen: Option<u32>,
    /// Packets that may wait to be written, 1 to [`MAX_BUFFER`].
    pub buffer: Option<u32>,
    /// Ends after so many packets.
    pub count: Option<u64>,
    /// Ends after so many milliseconds.
    pub duration_ms: Option<u64>,
    /// Ends before the file is longer than so many bytes, its statistics not counted.
    pub size: Option<u64>,
}

/// What a capture cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CaptureError {
    /// Two places.
    #[error("capture a port or the underlay, not both: an underlay port has a name as well")]
    TwoPlaces,
    /// A number out of its range.
    #[error("{name} is {is}, but must be 1 to {most}")]
    Range {
        /// Which.
        name: &'static str,
        /// What was given.
        is: u32,
        /// Up to where it goes.
        most: u32,
    },
}

impl Capture {
    /// What to ask of the workers.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn ask(&self) -> Result<Ask, CaptureError> {
        if self.underlay && self.port.is_some() {
            return Err(CaptureError::TwoPlaces);
        }
        let within = |name, is: Option<u32>, default, most| match is {
            None => Ok(default),
            Some(is) if (1..=most).contains(&is) => Ok(is),
            Some(is) => Err(CaptureError::Range { name, is, most }),
        };
        within("snaplen", self.snaplen, SNAPLEN, SNAPLEN)?;
        let depth = within("buffer", self.buffer, BUFFER, MAX_BUFFER)?;
        Ok(Ask {
            filter: Filter {
                port: self.port.clone(),
                underlay: self.underlay,
                from: self.from,
                vn: self.vn.clone(),
                mac: self.mac,
                ip: self.ip,
                proto: self.proto.clone(),
                l4_port: self.l4_port,
                ethertype: self.ethertype,
                drop: self.drop.clone(),
            },
            snaplen: self.snaplen() as usize,
            depth: depth as usize,
        })
    }

    fn snaplen(&self) -> u32 {
        self.snaplen.unwrap_or(SNAPLEN)
    }

    fn view(&self, watch: &Watch) -> View {
        let port = self.port.as_deref();
        match port.and_then(|name| watch.names.find_port(name)) {
            Some(place) => View::Port(place),
            None if self.underlay => View::Underlay,
            None => View::Frames,
        }
    }
}

/// How a capture ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Packets in the file.
    pub packets: u64,
    /// Packets that matched and found no room on their way here.
    pub lost: u64,
}

/// Takes pieces of the file, waiting as long as it must. An error means that nobody reads.
pub trait Reader {
    /// The next piece.
    fn take(&mut self, piece: Vec<u8>) -> io::Result<()>;
    /// Whether nobody reads any more.
    fn is_gone(&self) -> bool;
}

/// Captures until told to stop, a limit is reached, the reader is gone or the switch ends.
///
/// # Errors
/// When the reader is gone.
pub fn run(
    capture: &Capture,
    watch: &Watch,
    stop: &AtomicBool,
    reader: &mut impl Reader,
) -> io::Result<Summary> {
    let began = Instant::now();
    let limit = capture.duration_ms.map(Duration::from_millis);
    let mut clock = WallClock::new(watch.clock);
    let mut anchored = began;
    let view = capture.view(watch);
    let mut writer = Writer::new(capture.snaplen(), clock.now())?;
    for place in view.places(&watch.names) {
        writer.interface(place, &watch.names)?;
    }
    reader.take(writer.piece())?;
    let mut full = false;
    loop {
        // Looked at before the records are: those that were there in time are taken.
        let over = stop.load(Ordering::Relaxed) || limit.is_some_and(|l| began.elapsed() >= l);
        if anchored.elapsed() >= ANCHOR {
            clock.anchor();
            anchored = Instant::now();
        }
        let mut ended = false;
        let mut records = Vec::new();
        let most = if over { usize::MAX } else { BATCH };
        while records.len() < most.min(MAX_BUFFER as usize) {
            match watch.records.try_recv() {
                Ok(record) => records.push(record),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    ended = true;
                    break;
                }
            }
        }
        let mut packets: Vec<_> = records
            .iter()
            .filter_map(|record| view.of(record, capture.drop.is_some()))
            .collect();
        // Of several workers: what came first stands first, as far as it is known by now.
        packets.sort_by_key(|packet| packet.tsc);
        for packet in &packets {
            full = capture.count.is_some_and(|count| writer.packets() >= count)
                || !writer.packet(packet, &clock, &watch.names, capture.size)?;
            if full {
                break;
            }
        }
        full |= capture.count.is_some_and(|count| writer.packets() >= count);
        if !writer.is_empty() {
            reader.take(writer.piece())?;
        }
        if full || over || ended {
            break;
        }
        if records.is_empty() {
            if reader.is_gone() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            thread::sleep(PAUSE);
        }
    }
    let summary = Summary {
        packets: writer.packets(),
        lost: watch.lost(),
    };
    writer.statistics(clock.now(), summary.lost)?;
    reader.take(writer.piece())?;
    Ok(summary)
}

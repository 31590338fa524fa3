//! One event, and how it is told.

use super::TARGET;
use super::summary::PacketSummary;

/// Something that happened, a number of times, for one reason and on account of one subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityEvent {
    /// Class of the event.
    pub kind: &'static str,
    /// What exactly: for a drop, the verdict's name.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// The tenant's port.
    pub port: Option<String>,
    /// The underlay port.
    pub underlay: Option<String>,
    /// The virtual network.
    pub vn: Option<String>,
    /// The peer edge.
    pub peer: Option<String>,
    /// The association, or what a packet of an unknown one said.
    pub spi: Option<u32>,
    /// The worker that saw it.
    pub worker: Option<u16>,
    /// User at the other end of a vhost socket.
    pub uid: Option<u32>,
    /// Occurrences.
    pub count: u64,
    /// The first packet.
    pub packet: Option<PacketSummary>,
}

impl SecurityEvent {
    /// An event that happened once, about nobody yet.
    pub fn new(kind: &'static str, reason: impl Into<String>, message: impl Into<String>) -> Self {
        SecurityEvent {
            kind,
            reason: reason.into(),
            message: message.into(),
            port: None,
            underlay: None,
            vn: None,
            peer: None,
            spi: None,
            worker: None,
            uid: None,
            count: 1,
            packet: None,
        }
    }

    /// Tells of it; `suppressed` of its occurrences were held back until now.
    pub fn emit(&self, suppressed: u64) {
        let packet = self.packet.as_ref();
        tracing::warn!(
            target: TARGET,
            kind = self.kind,
            reason = self.reason,
            port = self.port,
            underlay = self.underlay,
            vn = self.vn,
            peer = self.peer,
            spi = self.spi.map(|spi| format!("{spi:#010x}")),
            worker = self.worker,
            uid = self.uid,
            count = self.count,
            suppressed,
            src_mac = packet.and_then(|p| p.src_mac.clone()),
            dst_mac = packet.and_then(|p| p.dst_mac.clone()),
            src = packet.and_then(|p| p.src.clone()),
            dst = packet.and_then(|p| p.dst.clone()),
            protocol = packet.and_then(|p| p.protocol),
            src_port = packet.and_then(|p| p.src_port),
            dst_port = packet.and_then(|p| p.dst_port),
            length = packet.map(|p| p.length),
            "{}",
            self.message
        );
    }
}

/// Keys of an association were given away, as the configuration allows.
///
/// `by` says who asked, as far as known.
pub fn key_exported(by: &str, vn: &str, peer: &str, spi: u32) {
    let message = format!("keys were exported, asked for by {by}");
    let mut event = SecurityEvent::new("key-export", "key-export", message);
    (event.vn, event.peer, event.spi) = (Some(vn.to_owned()), Some(peer.to_owned()), Some(spi));
    event.emit(0);
}

/// The running configuration is another one than before.
///
/// `reason` is a stable word (`start`, `apply`, `reload`, `rollback`), `message` says what
/// changed and who asked.
pub fn configuration_changed(reason: &str, message: &str) {
    SecurityEvent::new("configuration-change", reason, message).emit(0);
}

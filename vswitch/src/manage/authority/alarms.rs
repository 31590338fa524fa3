//! What of the authority and of keys belongs into the security log.

use vswitch_control::client::{Alarm, Gone};
use vswitch_control::keying::{Direction, Report};
use vswitch_control::types::{NveName, VnName};

use crate::manage::security::SecurityEvent;

/// An alarm of the client.
pub(super) fn alarm(alarm: &Alarm) {
    let (kind, reason) = match alarm {
        Alarm::Refused { .. } => ("authority-refusal", "vn-refused"),
        Alarm::Rejected { .. } => ("authority-refusal", "address-refused"),
        Alarm::Lost { .. } => ("authority-change", "address-moved"),
        Alarm::LeaseKept { .. } => ("lease-end", "vn-kept"),
        Alarm::Goodbye(_) => ("authority-refusal", "session-ended"),
        Alarm::Unopened { .. } => ("protocol-violation", "authority-unopened"),
        Alarm::Protocol(_) => ("protocol-violation", "authority-protocol"),
    };
    let mut event = SecurityEvent::new(kind, reason, alarm.to_string());
    match alarm {
        Alarm::Rejected { vn, port, .. } | Alarm::Lost { vn, port, .. } => {
            event.vn = Some(vn.to_string());
            event.port = Some(port.to_string());
        }
        Alarm::Refused { vn, .. } | Alarm::LeaseKept { vn } | Alarm::Unopened { vn } => {
            event.vn = Some(vn.to_string());
        }
        Alarm::Goodbye(_) | Alarm::Protocol(_) => {}
    }
    event.emit(0);
    tracing::warn!("{alarm}");
}

/// A network that this edge is not on any more.
pub(super) fn left(vn: &VnName, why: Gone) {
    tracing::info!(%vn, %why, "left the network: its keys and mappings are gone");
    let (kind, reason) = match why {
        Gone::Unwanted => return,
        Gone::Expelled => ("revocation", "vn-expelled"),
        Gone::Revoked => ("revocation", "edge-revoked"),
        Gone::LeaseEnded => ("lease-end", "vn-stopped"),
        Gone::Refused(_) => ("authority-refusal", "vn-refused"),
    };
    let message = format!("VN {vn} was left, its keys and mappings are gone: {why}");
    let mut event = SecurityEvent::new(kind, reason, message);
    event.vn = Some(vn.to_string());
    event.emit(0);
}

/// Another edge that lost every right.
pub(super) fn revoked(nve: &NveName) {
    let message = format!("edge {nve} was revoked: sessions, keys and mappings of it are gone");
    let mut event = SecurityEvent::new("revocation", "peer-revoked", message.as_str());
    event.peer = Some(nve.to_string());
    event.emit(0);
    tracing::warn!("{message}");
}

/// What key agreement reports.
pub(super) fn keying(report: &Report) {
    let (event, message) = match report {
        Report::Failing { vn, peer, failures } => {
            let message = format!("no keys with {peer} in VN {vn} after {failures} tries");
            let mut event = SecurityEvent::new("key-agreement", "failing", message.as_str());
            (event.vn, event.peer) = (Some(vn.to_string()), Some(peer.to_string()));
            (event, message)
        }
        Report::HardLimit {
            vn,
            peer,
            worker,
            spi,
        } => {
            let message = format!(
                "an SA of VN {vn} to {peer} reached its hard limit before it could be replaced"
            );
            let mut event = SecurityEvent::new("limit-reached", "sa-hard-limit", message.as_str());
            (event.vn, event.peer) = (Some(vn.to_string()), Some(peer.to_string()));
            (event.worker, event.spi) = (Some(*worker), Some(*spi));
            (event, message)
        }
        Report::Aged {
            vn,
            peer,
            outbound,
            inbound,
        } => {
            let message = format!(
                "keys with {peer} in VN {vn} are as old as they may get and closed, since no new \
                 ones could be agreed on: {outbound} to it, {inbound} from it"
            );
            let mut event = SecurityEvent::new("limit-reached", "sa-age", message.as_str());
            (event.vn, event.peer) = (Some(vn.to_string()), Some(peer.to_string()));
            event.count = (outbound + inbound) as u64;
            (event, message)
        }
        Report::Unreached { peer, since } => {
            let message = format!(
                "no session with {peer} for {} s: its keys are not replaced, and are closed at \
                 their greatest age",
                since.as_secs()
            );
            let mut event = SecurityEvent::new("key-agreement", "unreached", message.as_str());
            event.peer = Some(peer.to_string());
            (event, message)
        }
        Report::NotInstalled {
            vn,
            peer,
            direction,
            worker,
            why,
        } => {
            let way = match direction {
                Direction::Inbound => "from",
                Direction::Outbound => "to",
            };
            let message =
                format!("a key for VN {vn} {way} {peer}, worker {worker}, is not installed: {why}");
            let mut event = SecurityEvent::new("key-agreement", "not-installed", message.as_str());
            (event.vn, event.peer) = (Some(vn.to_string()), Some(peer.to_string()));
            (event, message)
        }
        Report::Crowding { peer, has } => {
            let message =
                format!("{peer} has {has} keys, as many as one edge may have, and asks for more");
            let mut event = SecurityEvent::new("limit-reached", "sa-share", message.as_str());
            event.peer = Some(peer.to_string());
            (event, message)
        }
        Report::Restarted { peer } => {
            tracing::info!(%peer, "the edge was started anew: its former keys are gone");
            return;
        }
    };
    event.emit(0);
    tracing::warn!("{message}");
}

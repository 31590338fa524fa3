//! What cannot be changed while the switch runs, and why.

use super::diff::{Entry, Field};
use crate::manage::config::Config;

/// Why an entry needs a restart; `None` if it can be applied.
pub(super) fn reason(entry: &Entry, running: &Config) -> Option<String> {
    let why = match entry.kind.as_str() {
        "nve" => "the edge's name is its identity towards others and in its logs",
        "eal" => "DPDK's memory and arguments are given to it once",
        "workers" => "threads, their cores and the queues they own are made at the start",
        "mempool" => "buffers are in use, and their size is that of the devices' queues",
        "state-dir" => {
            "it is locked and holds the reservations of the keys in use: stop the switch, move \
             the directory, start it"
        }
        "api" => "the socket is where this command came in",
        "authority" => "sessions and keys belong to the identity that they were made with",
        "metrics" => "the address is listened on from the start",
        "security-log" => {
            "the log goes on where it began; to rotate it, move the file away and send SIGHUP"
        }
        "underlay" => match only(entry, "routes") {
            true => return routes(running),
            false => "workers know the endpoints and ports of the underlay from their start",
        },
        "device" | "devices" => "a device's queues are shared out when the workers start",
        "underlay-port" => match only(entry, "neighbours") {
            true => return neighbours(entry, running),
            false => "a device's queues are shared out when the workers start",
        },
        _ => return None,
    };
    Some(why.to_owned())
}

fn only(entry: &Entry, field: &str) -> bool {
    entry.op == super::diff::Op::Change && entry.fields.iter().all(|f: &Field| f.name == field)
}

/// Routes are for ports without a tap; elsewhere they are the kernel's.
fn routes(running: &Config) -> Option<String> {
    let all_taps = running.underlay.ports.iter().all(|port| port.tap.is_some());
    all_taps.then(|| {
        "routes over taps are the kernel's: `ip route` changes them at once, the file counts at \
         the next start"
            .to_owned()
    })
}

fn neighbours(entry: &Entry, running: &Config) -> Option<String> {
    let port = running.underlay.ports.iter().find(|p| p.name == entry.name);
    let tap = port.and_then(|port| port.tap.as_ref())?;
    Some(format!(
        "neighbours of a port with a tap are the kernel's: `ip neigh replace … dev {tap}` \
         changes them at once, the file counts at the next start"
    ))
}

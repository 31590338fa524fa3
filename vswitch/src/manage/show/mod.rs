//! The status as text for people: what `vswitchctl show` prints.

mod authority;
mod changes;
mod edge;
mod latency;
mod memory;
mod overlay;
mod ports;
pub(in crate::manage) mod table;
pub(in crate::manage) mod units;
mod workers;

pub use authority::{keys, mappings, sessions};
pub use changes::{applied, difference, revisions};
use serde::Deserialize;

use crate::manage::api::Section;
use crate::manage::status::Status;

/// Tables for `body`, which is the API's answer for `section`. Ends with a newline.
///
/// Reasons for drops that never happened are left out unless `all_drops`.
///
/// # Errors
/// If `body` is not what this version understands by `section`.
pub fn text(section: Section, body: &[u8], all_drops: bool) -> Result<String, serde_json::Error> {
    Ok(match section {
        Section::Status => everything(&parse(body)?, all_drops),
        Section::Nve => edge::nve(&parse(body)?),
        Section::Ports => ports::ports(parse::<Vec<_>>(body)?.as_slice()),
        Section::Vns => overlay::vns(parse::<Vec<_>>(body)?.as_slice()),
        Section::Fdb => overlay::fdb(parse::<Vec<_>>(body)?.as_slice()),
        Section::Tunnels => overlay::tunnels(parse::<Vec<_>>(body)?.as_slice()),
        Section::Sas => overlay::sas(parse::<Vec<_>>(body)?.as_slice()),
        Section::Workers => workers::workers(parse::<Vec<_>>(body)?.as_slice()),
        Section::Drops => workers::drops(parse::<Vec<_>>(body)?.as_slice(), all_drops),
        Section::Peers => overlay::peers(parse::<Vec<_>>(body)?.as_slice()),
        Section::Latency => latency::latency(parse::<Vec<_>>(body)?.as_slice()),
        Section::Memory => memory::memory(&parse(body)?),
        Section::Ima => authority::ima(parse::<Option<_>>(body)?.as_ref()),
    })
}

fn parse<'de, T: Deserialize<'de>>(body: &'de [u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

fn everything(status: &Status, all_drops: bool) -> String {
    [
        ("EDGE", edge::nve(&status.nve)),
        ("PORTS", ports::ports(&status.ports)),
        ("VIRTUAL NETWORKS", overlay::vns(&status.vns)),
        ("FORWARDING", overlay::fdb(&status.fdb)),
        ("TUNNELS", overlay::tunnels(&status.tunnels)),
        ("PEERS", overlay::peers(&status.peers)),
        ("SECURITY ASSOCIATIONS", overlay::sas(&status.sas)),
        ("AUTHORITY", authority::ima(status.ima.as_ref())),
        ("WORKERS", workers::workers(&status.workers)),
        ("DROPS", workers::drops(&status.drops, all_drops)),
        ("LATENCY", latency::latency(&status.latency)),
        ("MEMORY", memory::memory(&status.memory)),
    ]
    .map(|(title, text)| format!("== {title}\n\n{text}"))
    .join("\n")
}

//! The mapping authority, sessions with other edges, mappings, and agreed keys.

use std::fmt::Write;

use super::table::{Cell, Left, Right, Table};
use super::units;
use crate::manage::status::{Ima, Key, Mapping, Session};

/// How wide a list in a cell may get before it goes on in the next line.
const LIST: usize = 32;

/// `show ima`.
pub(super) fn ima(ima: Option<&Ima>) -> String {
    let Some(ima) = ima else {
        return "No authority is configured: networks, mappings and keys are those of the file.\n"
            .to_owned();
    };
    let mut out = String::new();
    // Writing into a string cannot fail.
    let _ = writeln!(out, "identity   {} (until {})", ima.identity, ima.expires);
    let server = ima.server.as_deref().unwrap_or("none");
    let who = ima.server_identity.as_deref();
    let _ = writeln!(
        out,
        "server     {server}{}",
        who.map_or(String::new(), |who| format!(" ({who})"))
    );
    let trouble = ima.trouble.as_deref().filter(|_| ima.state != "connected");
    let _ = writeln!(
        out,
        "state      {}{}",
        ima.state,
        trouble.map_or(String::new(), |why| format!(": {why}"))
    );
    let lease = ima.lease_left.map_or("ended".to_owned(), units::duration);
    let _ = writeln!(out, "lease      {lease}");
    let _ = writeln!(
        out,
        "questions  {} asked, {} known, {} above a limit",
        ima.asked, ima.known, ima.limited
    );
    let _ = writeln!(
        out,
        "orders     {} waiting, other edges held back {} times",
        ima.orders, ima.held
    );
    let keys = ima.keys;
    let _ = writeln!(
        out,
        "keys       {} to send and {} to receive of {} each, {} workers share, {} denied, {} unsteered",
        keys.outbound, keys.inbound, keys.limit, keys.shared, keys.denied, keys.unsteered
    );
    let mut table = Table::new([
        ("VN", Left),
        ("STATE", Left),
        ("EPOCH", Right),
        ("LOG", Right),
        ("AT LEASE END", Left),
        ("MEMBERS", Right),
        ("MAPPINGS", Right),
    ]);
    let mut addresses = Table::new([
        ("VN", Left),
        ("ADDRESS HERE", Left),
        ("PORT", Left),
        ("STATE", Left),
    ]);
    for vn in &ima.vns {
        let state = match &vn.refusal {
            Some(why) => format!("{}: {why}", vn.state),
            None => vn.state.clone(),
        };
        for (mac, port, state) in &vn.addresses {
            addresses.row([
                Cell::from(&vn.vn),
                Cell::from(mac),
                Cell::from(port),
                Cell::from(state),
            ]);
        }
        table.row([
            Cell::from(&vn.vn),
            Cell::from(&state),
            Cell::option(vn.epoch),
            vn.version.into(),
            Cell::option(vn.lease_end.as_ref()),
            vn.members.into(),
            vn.mappings.into(),
        ]);
    }
    format!("{out}\n{table}\n{addresses}")
}

/// Sessions with other edges, to follow `show peers`; nothing if the authority names none.
pub fn sessions(body: &[u8]) -> Result<String, serde_json::Error> {
    let sessions: Vec<Session> = serde_json::from_slice(body)?;
    if sessions.is_empty() {
        return Ok(String::new());
    }
    let mut table = Table::new([
        ("EDGE", Left),
        ("SESSION", Left),
        ("OPENED", Left),
        ("TROUBLE", Left),
        ("CONTROL", Left),
        ("TUNNELS AT", Left),
        ("VNS", Left),
    ]);
    for session in &sessions {
        table.row([
            Cell::from(&session.peer),
            Cell::option(session.session.map(units::duration)),
            Cell::option(session.dialled.as_ref()),
            Cell::option(session.trouble.as_ref()),
            Cell::from(&session.control),
            Cell::list(&session.addresses, LIST),
            Cell::list(&session.vns, LIST),
        ]);
    }
    Ok(format!("\n{table}"))
}

/// `show mappings`.
pub fn mappings(body: &[u8]) -> Result<String, serde_json::Error> {
    let mappings: Vec<Mapping> = serde_json::from_slice(body)?;
    if mappings.is_empty() {
        return Ok("No mappings at other edges.\n".to_owned());
    }
    let mut table = Table::new([
        ("VN", Left),
        ("MAC", Left),
        ("EDGE", Left),
        ("GENERATION", Right),
        ("IP ADDRESSES", Left),
    ]);
    for mapping in &mappings {
        table.row([
            Cell::from(&mapping.vn),
            Cell::from(&mapping.mac),
            Cell::from(&mapping.peer),
            mapping.generation.into(),
            Cell::list(&mapping.ips, LIST),
        ]);
    }
    Ok(table.to_string())
}

/// `show keys`.
pub fn keys(body: &[u8]) -> Result<String, serde_json::Error> {
    let keys: Vec<Key> = serde_json::from_slice(body)?;
    if keys.is_empty() {
        return Ok("No agreed keys.\n".to_owned());
    }
    let mut table = Table::new([
        ("SPI", Left),
        ("VN", Left),
        ("EDGE", Left),
        ("DIRECTION", Left),
        ("SENDER'S WORKER", Right),
        ("EPOCH", Right),
        ("STATE", Left),
        ("CLOSES IN", Right),
    ]);
    for key in &keys {
        table.row([
            Cell::from(format!("0x{:08x}", key.spi)),
            Cell::from(&key.vn),
            Cell::from(&key.peer),
            Cell::from(&key.direction),
            key.worker.into(),
            key.epoch.into(),
            Cell::from(&key.state),
            Cell::from(units::duration(key.closes)),
        ]);
    }
    Ok(table.to_string())
}

//! The overlay: virtual networks, forwarding entries, tunnels and security associations.

use super::ports::{traffic_row, traffic_table};
use super::table::{Cell, Left, Right, Table};
use super::units;
use crate::manage::status::{FdbEntry, Peer, Sa, Tunnel, Vn};

/// How wide a list in a cell may get before it goes on in the next line.
const LIST: usize = 24;

/// `show vns`.
pub(super) fn vns(vns: &[Vn]) -> String {
    if vns.is_empty() {
        return "No virtual networks.\n".to_owned();
    }
    let mut table = Table::new([
        ("VN", Left),
        ("VNI", Right),
        ("PROTECTION", Left),
        ("MTU", Right),
        ("UNKNOWN", Left),
        ("LEARNING", Left),
        ("PORTS", Left),
        ("EDGES", Left),
    ]);
    let mut counters = traffic_table("VN");
    for vn in vns {
        table.row([
            Cell::from(&vn.name),
            vn.vni.into(),
            Cell::from(&vn.protection),
            vn.mtu.into(),
            Cell::from(&vn.unknown_unicast),
            if vn.learning { "on" } else { "off" }.into(),
            Cell::list(&vn.ports, LIST),
            Cell::list(&vn.edges, LIST),
        ]);
        counters.row(traffic_row(Cell::from(&vn.name), &vn.traffic));
    }
    format!("{table}\n{counters}")
}

/// `show fdb`.
pub(super) fn fdb(entries: &[FdbEntry]) -> String {
    if entries.is_empty() {
        return "No forwarding entries.\n".to_owned();
    }
    let mut table = Table::new([
        ("VN", Left),
        ("MAC", Left),
        ("DESTINATION", Left),
        ("PLACE", Left),
        ("ORIGIN", Left),
        ("IP ADDRESSES", Left),
    ]);
    for entry in entries {
        table.row([
            Cell::from(&entry.vn),
            Cell::from(&entry.mac),
            Cell::from(&entry.destination),
            Cell::from(&entry.place),
            Cell::from(&entry.origin),
            Cell::list(&entry.ips, 2 * LIST),
        ]);
    }
    table.to_string()
}

/// `show tunnels`.
pub(super) fn tunnels(tunnels: &[Tunnel]) -> String {
    if tunnels.is_empty() {
        return "No tunnels.\n".to_owned();
    }
    let mut table = Table::new([
        ("TUNNEL", Left),
        ("VNI", Right),
        ("STATE", Left),
        ("ENCAP", Left),
        ("PROTECTION", Left),
        ("LOCAL", Left),
        ("REMOTE", Left),
        ("NEXT HOPS", Left),
    ]);
    let mut counters = traffic_table("TUNNEL");
    for tunnel in tunnels {
        let name = || Cell::from(format!("{}/{}", tunnel.vn, tunnel.peer));
        table.row([
            name(),
            tunnel.vni.into(),
            Cell::from(&tunnel.state),
            Cell::from(&tunnel.encapsulation),
            Cell::from(&tunnel.protection),
            Cell::option(tunnel.local),
            Cell::option(tunnel.remote),
            Cell::lines(&tunnel.paths),
        ]);
        counters.row(traffic_row(name(), &tunnel.traffic));
    }
    format!("{table}\n{counters}")
}

/// `show peers`.
pub(super) fn peers(peers: &[Peer]) -> String {
    if peers.is_empty() {
        return "No peers.\n".to_owned();
    }
    let mut table = Table::new([
        ("PEER", Left),
        ("TUNNELS", Right),
        ("UP", Right),
        ("SAS", Right),
        ("REPLAYED", Right),
        ("AUTH FAILED", Right),
        ("ADDRESSES", Left),
    ]);
    let mut counters = traffic_table("PEER");
    for peer in peers {
        table.row([
            Cell::from(&peer.name),
            peer.tunnels.into(),
            peer.tunnels_up.into(),
            peer.sas.into(),
            peer.replayed.into(),
            peer.auth_failed.into(),
            Cell::list(&peer.addresses, 2 * LIST),
        ]);
        counters.row(traffic_row(Cell::from(&peer.name), &peer.traffic));
    }
    format!("{table}\n{counters}")
}

/// `show sas`: those that seal and those that open have little in common to show.
pub(super) fn sas(sas: &[Sa]) -> String {
    if sas.is_empty() {
        return "No security associations.\n".to_owned();
    }
    let mut outbound = Table::new([
        ("OUTBOUND", Left),
        ("VN", Left),
        ("PEER", Left),
        ("WORKER", Right),
        ("ALGORITHM", Left),
        ("NEXT SEQ", Right),
        ("RESERVED", Right),
        ("KEY USED", Right),
        ("PACKETS", Right),
        ("BYTES", Right),
        ("REKEY", Left),
    ]);
    let mut inbound = Table::new([
        ("INBOUND", Left),
        ("VN", Left),
        ("PEER", Left),
        ("WORKER", Right),
        ("ALGORITHM", Left),
        ("HIGHEST SEQ", Right),
        ("REPLAYED", Right),
        ("AUTH FAILED", Right),
        ("PACKETS", Right),
        ("BYTES", Right),
        ("REKEY", Left),
    ]);
    let (mut sealing, mut opening) = (0_usize, 0_usize);
    for sa in sas {
        let spi = Cell::from(format!("0x{:08x}", sa.spi));
        if sa.direction == "outbound" {
            sealing += 1;
            outbound.row([
                spi,
                Cell::from(&sa.vn),
                Cell::from(&sa.peer),
                sa.worker.into(),
                Cell::from(&sa.algorithm),
                sa.sequence.into(),
                Cell::option(sa.reserved_until),
                units::share(sa.blocks, sa.hard_limit).into(),
                sa.packets.into(),
                units::bytes(sa.bytes).into(),
                rekey(sa),
            ]);
        } else {
            opening += 1;
            inbound.row([
                spi,
                Cell::from(&sa.vn),
                Cell::from(&sa.peer),
                sa.worker.into(),
                Cell::from(&sa.algorithm),
                sa.sequence.into(),
                sa.replayed.into(),
                sa.auth_failed.into(),
                sa.packets.into(),
                units::bytes(sa.bytes).into(),
                rekey(sa),
            ]);
        }
    }
    match (sealing, opening) {
        (_, 0) => outbound.to_string(),
        (0, _) => inbound.to_string(),
        _ => format!("{outbound}\n{inbound}"),
    }
}

/// Whether the key is to be replaced, and the day on which it was given away; the tables are
/// narrow, JSON has the time.
fn rekey(sa: &Sa) -> Cell {
    let due = sa.rekey_due.then_some("due");
    let day = sa.exported.as_deref().and_then(|at| at.split('T').next());
    Cell::list(due.into_iter().chain(day), LIST)
}

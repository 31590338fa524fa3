//! Ports, and counters of packets and bytes wherever there are some.

use super::table::{Align, Cell, Left, Right, Table, printable};
use super::units;
use crate::manage::status::{Port, Traffic};

/// `show ports`: what they are, what went through them, and what to see to.
pub(super) fn ports(ports: &[Port]) -> String {
    if ports.is_empty() {
        return "No ports.\n".to_owned();
    }
    let mut table = Table::new([
        ("PORT", Left),
        ("KIND", Left),
        ("STATE", Left),
        ("VN", Left),
        ("MTU", Right),
        ("GUEST", Right),
        ("QUEUES", Right),
        ("WORKERS", Left),
        ("MAC", Left),
        ("DEVICE", Left),
    ]);
    let mut counters = traffic_table("PORT");
    for port in ports {
        table.row([
            Cell::from(&port.name),
            Cell::from(&port.kind),
            Cell::from(&port.state),
            Cell::option(port.vn.as_ref()),
            Cell::from(port.mtu),
            Cell::option(port.guest_mtu),
            Cell::from(port.queues),
            Cell::list(&port.workers, 8),
            Cell::lines(&port.macs),
            Cell::from(&port.device),
        ]);
        counters.row(traffic_row(Cell::from(&port.name), &port.traffic));
    }
    let mut text = format!("{table}\n{counters}");
    let remarks = |kind: &str, of: fn(&Port) -> Option<&str>| -> String {
        let remark = |port: &Port| {
            let remark = printable(of(port)?);
            Some(format!("{kind}: {}: {remark}\n", printable(&port.name)))
        };
        ports.iter().filter_map(remark).collect()
    };
    let below = [
        remarks("rss", |port| port.rss.as_deref()),
        remarks("warning", |port| port.warning.as_deref()),
    ];
    if below.iter().any(|lines| !lines.is_empty()) {
        text.push('\n');
        text.push_str(&below.concat());
    }
    text
}

/// A table of counters, of whatever `what` names.
pub(super) fn traffic_table(what: &'static str) -> Table<7> {
    let right = |title| -> (&'static str, Align) { (title, Right) };
    Table::new([
        (what, Left),
        right("RX PACKETS"),
        right("RX BYTES"),
        right("RX DROPPED"),
        right("TX PACKETS"),
        right("TX BYTES"),
        right("TX DROPPED"),
    ])
}

/// A row of it.
pub(super) fn traffic_row(name: Cell, traffic: &Traffic) -> [Cell; 7] {
    [
        name,
        traffic.rx_packets.into(),
        units::bytes(traffic.rx_bytes).into(),
        traffic.rx_dropped.into(),
        traffic.tx_packets.into(),
        units::bytes(traffic.tx_bytes).into(),
        traffic.tx_dropped.into(),
    ]
}

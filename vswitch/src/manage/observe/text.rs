//! A trace as text for people.

use std::fmt::Write;

use super::trace::{FrameView, Trace, TraceEnd};

/// One packet, several lines, and an empty one.
pub fn packet(trace: &Trace) -> String {
    let mut text = format!("packet {}", trace.id);
    // Writing to a String cannot fail.
    if let Some(original) = &trace.copy_of {
        let _ = write!(text, " (of {original})");
    }
    if let Some(vn) = &trace.vn {
        let _ = write!(text, ", VN {vn}");
    }
    text.push('\n');
    for (label, view) in [("outer", &trace.outer), ("frame", &trace.frame)] {
        if let Some(view) = view {
            let _ = writeln!(text, "  {label}: {}", headers(view));
        }
    }
    for step in &trace.steps {
        let _ = writeln!(
            text,
            "  {:>9} ns  w{:<3}{:<12} {}",
            step.ns, step.worker, step.stage, step.decision
        );
    }
    if trace.more_steps > 0 {
        let _ = writeln!(text, "  {:>9}     and {} steps more", "", trace.more_steps);
    }
    let _ = writeln!(
        text,
        "  {:>9} ns  => {}: {}: {}",
        trace.end_ns, trace.outcome, trace.verdict, trace.help
    );
    if let Some(why) = &trace.why {
        let _ = writeln!(text, "                {why}");
    }
    let _ = writeln!(text, "  {:>9} ns  in all\n", trace.total_ns);
    text
}

/// The last line.
pub fn end(end: &TraceEnd) -> String {
    let plural = if end.packets == 1 { "" } else { "s" };
    let mut text = format!("{} packet{plural}", end.packets);
    if end.lost > 0 {
        let _ = write!(
            text,
            ", {} more matched and were lost: they came faster than they were read",
            end.lost
        );
    }
    match end.reason.as_str() {
        "timeout" => text.push_str(" (time is up)"),
        "stopping" => text.push_str(" (the switch is stopping)"),
        _ => {}
    }
    text.push('\n');
    text
}

fn headers(view: &FrameView) -> String {
    let mut text = format!("{} > {}", view.src_mac, view.dst_mac);
    if let Some(vlan) = view.vlan {
        let _ = write!(text, ", VLAN {vlan}");
    }
    let kind = match (view.ethertype, view.protocol) {
        (0x0806, _) => "ARP".to_owned(),
        (_, Some(1)) => "ICMP".to_owned(),
        (_, Some(6)) => "TCP".to_owned(),
        (_, Some(17)) => "UDP".to_owned(),
        (_, Some(50)) => "ESP".to_owned(),
        (_, Some(58)) => "ICMPv6".to_owned(),
        (_, Some(protocol)) => format!("IP protocol {protocol}"),
        (kind, None) if kind < 0x600 => "802.3".to_owned(),
        (kind, None) => format!("EtherType {kind:#06x}"),
    };
    let _ = write!(text, ", {kind}");
    if let (Some(src), Some(dst)) = (&view.src_ip, &view.dst_ip) {
        let end = |ip: &str, port: Option<u16>| match port {
            Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
            Some(port) => format!("{ip}:{port}"),
            None => ip.to_owned(),
        };
        let _ = write!(
            text,
            " {} > {}",
            end(src, view.src_port),
            end(dst, view.dst_port)
        );
    }
    let _ = write!(text, ", {} bytes", view.len);
    text
}

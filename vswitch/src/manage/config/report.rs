//! What `vswitchd check` prints.

use std::fmt::Write;

use super::Config;
use super::model::{Attachment, Source, Vn};
use super::problem::Problem;
use super::types::{Direction, Protection};

/// Writing into a string cannot fail, so the results of `writeln!` are of no interest.
pub(super) fn render(config: &Config, host: &[Problem]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}: OK", config.file().display());
    for warning in config.warnings().iter().chain(host) {
        let _ = writeln!(out, "{}", warning.line(config.file(), "warning: "));
    }
    let _ = writeln!(out, "edge {}", config.name);
    workers(&mut out, config);
    underlay(&mut out, config);
    if let Some(authority) = &config.authority {
        let servers: Vec<String> = authority.servers.iter().map(ToString::to_string).collect();
        let _ = writeln!(
            out,
            "  authority: {}; sessions of other edges on {}",
            servers.join(", "),
            authority.listen
        );
    }
    for (i, vn) in config.vns.iter().enumerate() {
        network(&mut out, config, i, vn);
    }
    out
}

fn workers(out: &mut String, config: &Config) {
    let cores: Vec<String> = config.workers.cores.iter().map(u16::to_string).collect();
    let _ = writeln!(
        out,
        "  workers: {} on cores {}",
        cores.len(),
        cores.join(", ")
    );
    let pool = &config.mempool;
    let _ = writeln!(
        out,
        "  buffers: {} per NUMA node and {} per vhost port, {} bytes of packet each",
        pool.mbufs, pool.tenant_mbufs, pool.data_room
    );
}

fn underlay(out: &mut String, config: &Config) {
    for port in &config.underlay.ports {
        let tap = match &port.tap {
            Some(tap) => format!("tap {tap}"),
            None => "no tap".to_owned(),
        };
        let _ = writeln!(
            out,
            "  underlay port {}: MTU {}, {tap}",
            port.name, port.mtu
        );
    }
    let local: Vec<String> = config
        .underlay
        .local
        .iter()
        .map(ToString::to_string)
        .collect();
    let local = if local.is_empty() {
        "none".to_owned()
    } else {
        local.join(", ")
    };
    let _ = writeln!(out, "  tunnel endpoints: {local}");
    let sas = &config.security_associations;
    let inbound = sas
        .iter()
        .filter(|sa| sa.direction == Direction::Inbound)
        .count();
    let _ = writeln!(
        out,
        "  security associations: {} outbound, {inbound} inbound",
        sas.len() - inbound
    );
}

fn network(out: &mut String, config: &Config, index: usize, vn: &Vn) {
    let protection = match vn.protection {
        Protection::Confidential => "confidential",
        Protection::Integrity => "integrity",
        Protection::None => "NOT PROTECTED",
    };
    let mtu = vn.inner_mtu;
    let _ = match vn.source {
        Source::File | Source::Authority => writeln!(
            out,
            "VN {} (VNI {}, {protection}): {} edges, {} mappings, MTU for tenants {mtu}",
            vn.name,
            vn.vni,
            vn.edges.len(),
            vn.mappings.len()
        ),
        Source::Awaited => writeln!(
            out,
            "VN {} (described by the authority): MTU for tenants {mtu}",
            vn.name
        ),
    };
    for port in config.ports.iter().filter(|port| port.vn.index() == index) {
        let what = match &port.attachment {
            Attachment::Vhost(vhost) => {
                format!(
                    "{}; QEMU: -device virtio-net-pci,host_mtu={mtu},…",
                    vhost.socket.display()
                )
            }
            Attachment::Vlan(vlan) => {
                let device = config.devices.get(usize::from(vlan.device.0));
                let name = device.map_or("?", |device| device.name.as_str());
                format!("VLAN {} of {name}", vlan.vid)
            }
        };
        let _ = writeln!(out, "  port {}: {what}", port.name);
    }
}

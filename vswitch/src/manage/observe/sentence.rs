//! What a stage decided, as a sentence with names.

use std::fmt::Write;
use std::net::IpAddr;

use vswitch_net::{Encapsulation, MacAddr};
use vswitch_vn::PortId;

use super::names::Names;
use crate::datapath::observe::{Mark, Record, Rule, Step};

/// Of one step of a record.
pub(super) fn sentence(mark: &Mark, record: &Record, names: &Names) -> String {
    match mark.step {
        Step::Received(place) => format!("from {}", names.place(place)),
        Step::HandedIn(worker) => format!("taken over from worker {worker}"),
        Step::Generated => "made by the switch to answer this packet".to_owned(),
        Step::Vlan { vid, port, vn } => {
            format!(
                "VLAN {vid} is port {} of VN {}",
                names.port(port),
                names.vn(vn)
            )
        }
        Step::Placed { port, mac } => placed(port, mac, record, names),
        Step::AdmittedByVlan { port, mac, mapped } => {
            let port = names.port(port);
            match mapped {
                true => format!("source {mac} is mapped to port {port}"),
                false => format!("source {mac} has no mapping; VLAN port {port} admits it"),
            }
        }
        Step::ChecksumCompleted => {
            "completed the checksum that the tenant left to the switch".to_owned()
        }
        Step::Lookup {
            mac,
            rule,
            destination,
            ..
        } => {
            let destination = names.destination(destination);
            match rule {
                Rule::Mapping(generation) => {
                    format!("mapping {mac} (generation {generation}) -> {destination}")
                }
                Rule::Learned => format!("learned {mac} -> {destination}"),
            }
        }
        Step::UnknownFlooded { vn } => {
            format!("no mapping; VN {} floods unknown unicast", names.vn(vn))
        }
        Step::Flooded { vn } => format!(
            "group address: a copy to every other port and edge of VN {}",
            names.vn(vn)
        ),
        Step::Copied { to } => format!("this copy -> {}", names.destination(to)),
        Step::TooLong { len, max } => {
            format!("{len} bytes, and the way there carries {max}")
        }
        Step::Encapsulated {
            tunnel,
            encapsulation,
            vni,
            sa,
            underlay,
            next_hop,
        } => {
            let mut text = format!(
                "{} VNI {vni} to {}, ",
                header(encapsulation),
                names.peer(tunnel)
            );
            // Writing to a String cannot fail.
            let _ = match sa {
                Some((spi, seq)) => write!(text, "SA spi {spi:#x} seq {seq}, "),
                None => write!(text, "in the clear, "),
            };
            let _ = write!(
                text,
                "path {} next hop {next_hop}",
                names.underlay(underlay)
            );
            text
        }
        Step::Sealed { algorithm } => format!("sealed with {algorithm}"),
        Step::Esp {
            spi,
            seq,
            owner,
            tunnel,
        } => {
            let mut text = format!("ESP spi {spi:#x} seq {seq}");
            let _ = match (tunnel, owner) {
                (Some((tunnel, vn)), _) => write!(
                    text,
                    " -> SA of VN {} from {}",
                    names.vn(vn),
                    names.peer(tunnel)
                ),
                (None, Some(owner)) if owner != mark.worker => {
                    write!(text, " -> SA of worker {owner}")
                }
                _ => write!(text, ": nobody knows this SPI"),
            };
            text
        }
        Step::Clear(encapsulation) => format!("{} in the clear", header(encapsulation)),
        Step::ForKernel => "no overlay traffic: for the host kernel".to_owned(),
        Step::Fresh { seq, highest } => {
            format!("seq {seq} not seen before (highest accepted: {highest}), from the SA's peer")
        }
        Step::Authenticated { algorithm } => format!("authenticated with {algorithm}"),
        Step::Decapsulated {
            tunnel,
            vn,
            encapsulation,
            vni,
        } => format!(
            "{} VNI {vni} is VN {}, tunnel from {}",
            header(encapsulation),
            names.vn(vn),
            names.peer(tunnel)
        ),
        Step::SourceMapped { mac, generation } => {
            format!("source {mac} is mapped to this peer (generation {generation})")
        }
        Step::SourceUnmapped { mac } => {
            format!("source {mac} has no mapping; the VN learns")
        }
        Step::HandedOut(worker) => format!("handed to worker {worker}"),
        Step::Queued(place) => format!("queued for {}", names.place(place)),
    }
}

const fn header(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Geneve => "Geneve",
        Encapsulation::Vxlan => "VXLAN",
    }
}

/// The entry of the port's placements that admitted a source.
fn placed(port: PortId, mac: MacAddr, record: &Record, names: &Names) -> String {
    let used: Option<IpAddr> = record.frame.and_then(|frame| frame.ips).map(|(src, _)| src);
    let entry = names
        .placed
        .get(port.index())
        .and_then(|entries| entries.iter().find(|(placed, _)| *placed == mac));
    let name = names.port(port);
    match (entry, used) {
        (Some((_, ips)), _) if ips.is_empty() => {
            format!("source {mac} is placed on port {name} (any IP address)")
        }
        (Some((_, ips)), Some(ip)) if ips.contains(&ip) => {
            format!("source {mac} is placed on port {name} (binding {ip})")
        }
        _ => format!("source {mac} is placed on port {name}"),
    }
}

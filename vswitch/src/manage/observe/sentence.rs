//! What a stage decided, as a sentence with names.

use std::fmt::Write;
use std::net::IpAddr;

use vswitch_net::{Encapsulation, MacAddr};
use vswitch_vn::PortId;

use super::names::Names;
use crate::datapath::observe::{Mark, Place, Record, Rule, Step};
use crate::datapath::verdict::Verdict;

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

/// Why a packet was dropped, where the verdict alone does not tell which addresses.
pub(super) fn why(record: &Record, names: &Names) -> Option<String> {
    let frame = record.frame?;
    let source = match frame.ips {
        Some((ip, _)) => format!("source {} with {ip}", frame.src_mac),
        None => format!("source {}", frame.src_mac),
    };
    let vn = record.vn.map_or("?", |vn| names.vn(vn));
    let peer = record.tunnel.map_or("?", |tunnel| names.peer(tunnel));
    match (record.verdict, record.from) {
        (
            Verdict::SpoofedMac | Verdict::SpoofedIp | Verdict::SpoofedArp | Verdict::SpoofedNd,
            Place::Port(port),
        ) => Some(format!(
            "{source}; placed on port {}: {}",
            names.port(port),
            placements(port, names)
        )),
        (Verdict::SpoofedRemote | Verdict::SpoofedRemoteIp, _) => {
            Some(format!("{source}, from {peer}, in VN {vn}"))
        }
        (Verdict::UnknownUnicast, _) => Some(format!("VN {vn} has no entry for {}", frame.dst_mac)),
        (
            Verdict::NoSa
            | Verdict::NoKey
            | Verdict::SaHardLimit
            | Verdict::SaReservation
            | Verdict::NoNeighbour,
            _,
        ) => Some(format!("towards {peer}, in VN {vn}")),
        _ => None,
    }
}

fn placements(port: PortId, names: &Names) -> String {
    let entries = names.placed.get(port.index()).map(Vec::as_slice);
    let entries = entries.unwrap_or_default().iter().map(|(mac, ips)| {
        let ips: Vec<String> = ips.iter().map(IpAddr::to_string).collect();
        match ips.is_empty() {
            true => format!("{mac} (any IP address)"),
            false => format!("{mac} ({})", ips.join(", ")),
        }
    });
    let entries: Vec<String> = entries.collect();
    match entries.is_empty() {
        true => "nothing".to_owned(),
        false => entries.join(", "),
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

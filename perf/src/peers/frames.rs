//! The packets that both switches get, as captures for DPDK's pcap driver: 1024 flows, one
//! packet each, in the order of the flows.

use std::fs::File;
use std::io::BufWriter;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use vswitch_net::{Encapsulation, MacAddr, Vni, ipv4};

use crate::datapath::edge::Side;
use crate::datapath::frames::{self, FLOWS, Sender};

/// Bytes of UDP and a VXLAN or Geneve header without options.
const TUNNEL: usize = 16;

/// The overlay header of the peer's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Tunnel {
    /// VXLAN: the faster one in Open vSwitch.
    Vxlan,
    /// Geneve, as inside our ESP.
    Geneve,
}

impl Tunnel {
    /// Open vSwitch's name of it.
    pub const fn name(self) -> &'static str {
        match self {
            Tunnel::Vxlan => "vxlan",
            Tunnel::Geneve => "geneve",
        }
    }

    const fn encapsulation(self) -> Encapsulation {
        match self {
            Tunnel::Vxlan => Encapsulation::Vxlan,
            Tunnel::Geneve => Encapsulation::Geneve,
        }
    }
}

/// Frames from the tenant to each station, with this VLAN if there is one.
pub fn from_tenant(bytes: usize, vid: Option<u16>) -> Vec<Vec<u8>> {
    let frame = |flow| {
        let mut frame = vec![0; bytes];
        frames::write(&mut frame, Sender::Tenant, flow);
        if let Some(vid) = vid {
            let [high, low] = vid.to_be_bytes();
            frame.splice(12..12, [0x81, 0x00, high, low]);
        }
        frame
    };
    (0..FLOWS).map(frame).collect()
}

/// Frames from each station to the tenant, in a tunnel from the far side to the near one, in
/// the clear.
pub fn from_stations(bytes: usize, tunnel: Tunnel, vni: u32) -> anyhow::Result<Vec<Vec<u8>>> {
    let vni = Vni::new(vni).context("VNI")?;
    let frame = |flow: u16| -> anyhow::Result<Vec<u8>> {
        let mut inner = vec![0; bytes];
        frames::write(&mut inner, Sender::Station, flow);
        // A source port for each flow (RFC 7348, section 5).
        let mut headers = [0; TUNNEL];
        let written = tunnel
            .encapsulation()
            .write(&mut headers, 0xc000 | flow, vni, inner.len());
        ensure!(written == Some(TUNNEL), "a header of another length");
        let udp = u16::try_from(TUNNEL + inner.len())?;
        let mut ip = [0; 20];
        ip[0] = 0x45;
        ip[2..4].copy_from_slice(&(20 + udp).to_be_bytes());
        ip[8] = 64;
        ip[9] = 17;
        ip[12..16].copy_from_slice(&address(Side::Far)?.octets());
        ip[16..20].copy_from_slice(&address(Side::Near)?.octets());
        let sum = ipv4::header_checksum(&ip);
        ip[10..12].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Vec::new();
        let MacAddr(to) = Side::Near.mac();
        let MacAddr(from) = Side::Far.mac();
        frame.extend(to.into_iter().chain(from).chain([0x08, 0x00]).chain(ip));
        frame.extend(headers.into_iter().chain(inner));
        Ok(frame)
    };
    (0..FLOWS).map(frame).collect()
}

/// Address of a side on the underlay, which is IPv4 here.
pub fn address(side: Side) -> anyhow::Result<Ipv4Addr> {
    match side.ip() {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(address) => anyhow::bail!("{address} is not IPv4"),
    }
}

/// Writes a capture.
pub fn write(path: &Path, frames: &[Vec<u8>]) -> anyhow::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    let mut writer = PcapWriter::new(file).context("a capture")?;
    for frame in frames {
        let length = u32::try_from(frame.len())?;
        let packet = PcapPacket::new(Duration::ZERO, length, frame);
        writer.write_packet(&packet).context("a capture")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_net::Frame;

    #[test]
    fn tunnels_hold_what_they_should() {
        for tunnel in [Tunnel::Vxlan, Tunnel::Geneve] {
            let all = from_stations(64, tunnel, 0x1234).expect("frames");
            assert_eq!(all.len(), usize::from(FLOWS));
            let last = all.last().expect("a frame");
            assert_eq!(last.len(), 14 + 20 + 8 + 8 + 64);
            let outer = Frame::parse(last, last.len()).expect("a good frame");
            assert_eq!((outer.dst, outer.l3_end()), (Side::Near.mac(), last.len()));
            let inner = &last[50..];
            let parsed = Frame::parse(inner, inner.len()).expect("a good frame");
            assert_eq!(parsed.src, frames::station_mac(FLOWS - 1));
            assert_eq!(&last[46..49], [0, 0x12, 0x34]);
        }
    }

    #[test]
    fn tags_are_behind_the_addresses() {
        let all = from_tenant(64, Some(100));
        let frame = all.first().expect("a frame");
        assert_eq!(frame.len(), 68);
        assert_eq!(&frame[12..18], [0x81, 0, 0, 100, 8, 0]);
        assert_eq!(from_tenant(64, None)[0][12..14], [8, 0]);
    }
}

//! A frame for a dry run: described by its addresses, given as digits, or out of a capture.

use std::net::IpAddr;

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpHeaders, IpNumber, PacketBuilder,
    PacketBuilderStep,
};
use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};
use vswitch_net::MacAddr;

use super::filter::protocol;

/// A frame, described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Source MAC.
    pub src_mac: MacAddr,
    /// Destination MAC.
    pub dst_mac: MacAddr,
    /// Source and destination of IP; sender and target of ARP. `None`: no IP.
    pub ips: Option<(IpAddr, IpAddr)>,
    /// As [`super::Filter::proto`]; UDP if absent.
    pub proto: Option<String>,
    /// Source port of TCP or UDP.
    pub src_port: u16,
    /// Destination port of TCP or UDP.
    pub dst_port: u16,
    /// 802.1Q VLAN identifier.
    pub vlan: Option<u16>,
    /// Bytes of the frame, FCS not included; shorter than its headers: just these.
    pub size: usize,
}

/// Why there is no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// Addresses of different families.
    #[error("source and destination IP must be of one family")]
    Families,
    /// ARP without IPv4.
    #[error("ARP needs --src-ip and --dst-ip, both IPv4")]
    Arp,
    /// Not a protocol.
    #[error("`{0}` is no protocol: tcp, udp, icmp, icmpv6, esp, arp or a number up to 255")]
    Protocol(String),
    /// Not a VLAN.
    #[error("a VLAN is a number up to 4095")]
    Vlan,
    /// The headers do not fit together.
    #[error("no such packet: {0}")]
    Build(String),
    /// Not readable as a capture.
    #[error("neither pcap nor pcapng: {0}")]
    Pcap(#[from] PcapError),
    /// Not of Ethernet.
    #[error("the capture is not of Ethernet but of {0:?}")]
    Link(DataLink),
    /// Fewer packets.
    #[error("the capture has {has} packets, so none with number {wanted}; the first is 1")]
    Index {
        /// What was asked for.
        wanted: usize,
        /// Packets in the file.
        has: usize,
    },
    /// Packet cut by the capture.
    #[error("packet {wanted} was cut when it was captured: {kept} of {len} bytes are there")]
    Cut {
        /// Its number.
        wanted: usize,
        /// Bytes there.
        kept: usize,
        /// Bytes it had.
        len: u32,
    },
}

impl Description {
    /// Its bytes.
    ///
    /// # Errors
    /// When there is no such frame.
    pub fn build(&self) -> Result<Vec<u8>, FrameError> {
        let (ethertype, payload) = match (self.proto.as_deref(), self.ips) {
            (Some("arp"), ips) => (0x0806, self.arp(ips)?),
            (_, Some((IpAddr::V4(src), IpAddr::V4(dst)))) => {
                let ip = PacketBuilder::ipv4(src.octets(), dst.octets(), TTL);
                (0x0800, self.transport(ip, true)?)
            }
            (_, Some((IpAddr::V6(src), IpAddr::V6(dst)))) => {
                let ip = PacketBuilder::ipv6(src.octets(), dst.octets(), TTL);
                (0x86dd, self.transport(ip, false)?)
            }
            (_, Some(_)) => return Err(FrameError::Families),
            (_, None) => (EXPERIMENTAL, Vec::new()),
        };
        let mut frame = [self.dst_mac.0, self.src_mac.0].concat();
        if let Some(vlan) = self.vlan {
            if vlan > 0xfff {
                return Err(FrameError::Vlan);
            }
            frame.extend([0x81, 0x00]);
            frame.extend(vlan.to_be_bytes());
        }
        frame.extend(u16::to_be_bytes(ethertype));
        frame.extend(payload);
        if frame.len() < self.size {
            frame.resize(self.size, 0);
        }
        Ok(frame)
    }

    /// A request; the size is the frame's affair.
    fn arp(&self, ips: Option<(IpAddr, IpAddr)>) -> Result<Vec<u8>, FrameError> {
        let Some((IpAddr::V4(sender), IpAddr::V4(target))) = ips else {
            return Err(FrameError::Arp);
        };
        let packet = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            ArpOperation::REQUEST,
            &self.src_mac.0,
            &sender.octets(),
            &[0; 6],
            &target.octets(),
        )
        .map_err(|error| FrameError::Build(error.to_string()))?;
        Ok(packet.to_bytes().to_vec())
    }

    fn transport(&self, ip: PacketBuilderStep<IpHeaders>, v4: bool) -> Result<Vec<u8>, FrameError> {
        let name = self.proto.as_deref().unwrap_or("udp");
        let number = protocol(name).ok_or_else(|| FrameError::Protocol(name.to_owned()))?;
        let ports = (self.src_port, self.dst_port);
        let link = ETHERNET + if self.vlan.is_some() { TAG } else { 0 };
        // What is left of the size for the payload behind headers of so many bytes.
        let payload = |headers: usize| vec![0; self.size.saturating_sub(link + headers)];
        let mut bytes = Vec::new();
        let built = match (number, v4) {
            (6, _) => {
                let tcp = ip.tcp(ports.0, ports.1, 0, 65_535).syn();
                let payload = payload(tcp.size(0));
                tcp.write(&mut bytes, &payload)
            }
            (17, _) => {
                let udp = ip.udp(ports.0, ports.1);
                let payload = payload(udp.size(0));
                udp.write(&mut bytes, &payload)
            }
            (1, true) => {
                let echo = ip.icmpv4_echo_request(1, 1);
                let payload = payload(echo.size(0));
                echo.write(&mut bytes, &payload)
            }
            (58, false) => {
                let echo = ip.icmpv6_echo_request(1, 1);
                let payload = payload(echo.size(0));
                echo.write(&mut bytes, &payload)
            }
            (number, _) => {
                let payload = payload(ip.size(0));
                ip.write(&mut bytes, IpNumber(number), &payload)
            }
        };
        built.map_err(|error| FrameError::Build(error.to_string()))?;
        Ok(bytes)
    }
}

/// Hop limit of what is described: a sender's default (RFC 1700).
const TTL: u8 = 64;
/// EtherType of a frame without IP: the first for experiments (IEEE 802).
const EXPERIMENTAL: u16 = 0x88b5;
const ETHERNET: usize = 14;
const TAG: usize = 4;

/// Packet number `index` of a pcap or pcapng file, from 1.
///
/// # Errors
/// When the file is no capture of Ethernet, or has no such packet.
pub fn from_capture(file: &[u8], index: usize) -> Result<Vec<u8>, FrameError> {
    /// First bytes of a pcapng file (its section header's type).
    const PCAPNG: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
    if file.starts_with(&PCAPNG) {
        from_pcapng(file, index)
    } else {
        from_pcap(file, index)
    }
}

fn from_pcap(file: &[u8], index: usize) -> Result<Vec<u8>, FrameError> {
    let mut reader = PcapReader::new(file)?;
    ethernet(reader.header().datalink)?;
    let mut has = 0;
    while let Some(packet) = reader.next_packet() {
        let packet = packet?;
        has += 1;
        if has == index {
            return whole(index, &packet.data, packet.orig_len);
        }
    }
    Err(FrameError::Index { wanted: index, has })
}

fn from_pcapng(file: &[u8], index: usize) -> Result<Vec<u8>, FrameError> {
    let mut reader = PcapNgReader::new(file)?;
    let mut has = 0;
    let mut links = Vec::new();
    while let Some(block) = reader.next_block() {
        let (interface, data, len) = match block? {
            Block::SectionHeader(_) => {
                links.clear();
                continue;
            }
            Block::InterfaceDescription(interface) => {
                links.push(interface.linktype);
                continue;
            }
            Block::EnhancedPacket(packet) => {
                (packet.interface_id, packet.data, packet.original_len)
            }
            Block::SimplePacket(packet) => (0, packet.data, packet.original_len),
            _ => continue,
        };
        has += 1;
        if has == index {
            if let Some(link) = links.get(interface as usize) {
                ethernet(*link)?;
            }
            return whole(index, &data, len);
        }
    }
    Err(FrameError::Index { wanted: index, has })
}

fn ethernet(link: DataLink) -> Result<(), FrameError> {
    match link {
        DataLink::ETHERNET => Ok(()),
        other => Err(FrameError::Link(other)),
    }
}

fn whole(wanted: usize, data: &[u8], len: u32) -> Result<Vec<u8>, FrameError> {
    if data.len() < len as usize {
        return Err(FrameError::Cut {
            wanted,
            kept: data.len(),
            len,
        });
    }
    Ok(data.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcap_file::pcap::{PcapPacket, PcapWriter};
    use pcap_file::pcapng::PcapNgWriter;
    use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
    use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionBlock;
    use std::borrow::Cow;
    use std::time::Duration;
    use vswitch_net::frame::{Frame, L3, L4};

    fn description(proto: &str, v6: bool) -> Description {
        let ips: [IpAddr; 2] = match v6 {
            false => ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()],
            true => ["fd00::1".parse().unwrap(), "fd00::2".parse().unwrap()],
        };
        Description {
            src_mac: MacAddr([2, 0, 0, 0, 0, 1]),
            dst_mac: MacAddr([2, 0, 0, 0, 0, 2]),
            ips: Some((ips[0], ips[1])),
            proto: Some(proto.to_owned()),
            src_port: 1234,
            dst_port: 80,
            vlan: None,
            size: 200,
        }
    }

    #[test]
    fn what_is_described_is_what_the_switch_parses() {
        for (proto, v6, number) in [
            ("tcp", false, 6),
            ("udp", false, 17),
            ("icmp", false, 1),
            ("esp", false, 50),
            ("132", false, 132),
            ("tcp", true, 6),
            ("udp", true, 17),
            ("icmpv6", true, 58),
        ] {
            for vlan in [None, Some(7)] {
                let mut wanted = description(proto, v6);
                wanted.vlan = vlan;
                let bytes = wanted.build().unwrap();
                assert_eq!(bytes.len(), 200, "{proto}");
                let frame = Frame::parse(&bytes, bytes.len()).unwrap();
                assert_eq!(frame.src, wanted.src_mac);
                assert_eq!(frame.dst, wanted.dst_mac);
                assert_eq!(frame.vlan, vlan);
                assert_eq!(frame.src_ip().zip(frame.dst_ip()), wanted.ips);
                assert_eq!(frame.ip_protocol(), Some(number));
                assert_eq!(frame.l3_end(), 200, "{proto} fills the frame");
                if let L4::Tcp { sport, dport, .. } | L4::Udp { sport, dport, .. } = frame.l4 {
                    assert_eq!((sport, dport), (1234, 80));
                }
            }
        }
    }

    #[test]
    fn arp_asks_and_contradictions_are_refused() {
        let bytes = description("arp", false).build().unwrap();
        let frame = Frame::parse(&bytes, bytes.len()).unwrap();
        let L3::Arp {
            op,
            sender_ip,
            target_ip,
            ..
        } = frame.l3
        else {
            panic!("{frame:?}")
        };
        assert_eq!(op, vswitch_net::arp::REQUEST);
        assert_eq!(
            (sender_ip.to_string(), target_ip.to_string()),
            ("10.0.0.1".into(), "10.0.0.2".into())
        );
        assert!(matches!(
            description("arp", true).build(),
            Err(FrameError::Arp)
        ));
        assert!(matches!(
            description("tpc", false).build(),
            Err(FrameError::Protocol(_))
        ));
        let mut mixed = description("udp", false);
        mixed.ips = Some(("10.0.0.1".parse().unwrap(), "fd00::2".parse().unwrap()));
        assert!(matches!(mixed.build(), Err(FrameError::Families)));
    }

    #[test]
    fn captures_of_both_kinds_are_read() {
        let packets = [vec![1u8; 60], vec![2; 70], vec![3; 80]];
        let mut pcap = PcapWriter::new(Vec::new()).unwrap();
        for bytes in &packets {
            let packet = PcapPacket::new(Duration::ZERO, bytes.len() as u32, bytes);
            pcap.write_packet(&packet).unwrap();
        }
        let pcap = pcap.into_writer();
        let mut pcapng = PcapNgWriter::new(Vec::new()).unwrap();
        pcapng
            .write_pcapng_block(InterfaceDescriptionBlock {
                linktype: DataLink::ETHERNET,
                snaplen: 0,
                options: vec![],
            })
            .unwrap();
        for bytes in &packets {
            pcapng
                .write_pcapng_block(EnhancedPacketBlock {
                    interface_id: 0,
                    timestamp: Duration::ZERO,
                    original_len: bytes.len() as u32 + u32::from(bytes[0] == 3),
                    data: Cow::Borrowed(bytes),
                    options: vec![],
                })
                .unwrap();
        }
        let pcapng = pcapng.into_inner();
        for file in [&pcap, &pcapng] {
            assert_eq!(from_capture(file, 2).unwrap(), packets[1]);
            let error = from_capture(file, 4).unwrap_err();
            assert!(error.to_string().contains("3 packets"), "{error}");
        }
        assert!(matches!(
            from_capture(&pcapng, 3),
            Err(FrameError::Cut { .. })
        ));
        assert!(matches!(
            from_capture(b"nonsense", 1),
            Err(FrameError::Pcap(_))
        ));
    }
}

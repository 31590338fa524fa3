//! Outer headers built once per path and copied before every packet.
//!
//! All that could tell packets of one path apart, or carry a covert channel, is constant: DSCP
//! and ECN 0, TTL or hop limit 64, IP ID 0 with DF set, flow label 0, ports of the path. The UDP
//! checksum is 0 over IPv4 (RFC 3948, 2.1) and over IPv6 to be filled in behind the sealed
//! packet (RFC 8200, 8.1): [`ipv6_udp_checksum`].

use std::net::{IpAddr, Ipv6Addr};

use zerocopy::IntoBytes;

use crate::checksum::{Checksum, udp_checksum_v6};
use crate::ethernet::{self, EthernetHeader, ethertype};
use crate::ip::{IpVersion, protocol};
use crate::ipv4::{self, DONT_FRAGMENT, Ipv4Header};
use crate::ipv6::{self, Ipv6Header};
use crate::mac::MacAddr;
use crate::udp::{self, UdpHeader};
use crate::wire;

/// Octets of Ethernet, IPv4 and UDP header.
pub const LEN_V4: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN + udp::HEADER_LEN;
/// Octets of Ethernet, IPv6 and UDP header.
pub const LEN_V6: usize = ethernet::HEADER_LEN + ipv6::HEADER_LEN + udp::HEADER_LEN;
/// The most a template writes.
pub const MAX_LEN: usize = LEN_V6;
/// TTL and hop limit of what we send.
pub const HOP_LIMIT: u8 = 64;

const V4_TOTAL_LEN: usize = ethernet::HEADER_LEN + 2;
const V4_CHECKSUM: usize = ethernet::HEADER_LEN + 10;
const V4_UDP_LEN: usize = LEN_V4 - 4;
const V6_PAYLOAD_LEN: usize = ethernet::HEADER_LEN + 4;
const V6_UDP: usize = LEN_V6 - udp::HEADER_LEN;
const V6_UDP_LEN: usize = LEN_V6 - 4;

/// Source and destination address are of different versions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("source and destination address are of different IP versions")]
pub struct VersionMismatch;

/// Ethernet, IP and UDP header of one path, but for the lengths and what depends on them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Template {
    bytes: [u8; MAX_LEN],
    version: IpVersion,
    /// Sum of the IPv4 header with length and checksum zero.
    partial: u16,
}

impl Template {
    /// Headers from `src` to `dst`.
    pub fn new(
        src_mac: MacAddr,
        dst_mac: MacAddr,
        src: IpAddr,
        dst: IpAddr,
        sport: u16,
        dport: u16,
    ) -> Result<Self, VersionMismatch> {
        let eth = |ethertype: u16| EthernetHeader {
            dst: dst_mac,
            src: src_mac,
            ethertype: ethertype.into(),
        };
        let udp = UdpHeader {
            sport: sport.into(),
            dport: dport.into(),
            len: 0.into(),
            checksum: 0.into(),
        };
        let mut bytes = [0; MAX_LEN];
        let mut partial = Checksum::new();
        // The array holds the longest of them, so every `put` finds room.
        let version = match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let ip = Ipv4Header {
                    version_ihl: 0x45,
                    tos: 0,
                    total_len: 0.into(),
                    id: 0.into(),
                    flags_fragment: DONT_FRAGMENT.into(),
                    ttl: HOP_LIMIT,
                    protocol: protocol::UDP,
                    checksum: 0.into(),
                    src: src.octets(),
                    dst: dst.octets(),
                };
                partial.add(ip.as_bytes());
                wire::put(&mut bytes, 0, &eth(ethertype::IPV4))
                    .and_then(|at| wire::put(&mut bytes, at, &ip))
                    .and_then(|at| wire::put(&mut bytes, at, &udp));
                IpVersion::V4
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let ip = Ipv6Header {
                    version_class_flow: 0x6000_0000.into(),
                    payload_len: 0.into(),
                    next_header: protocol::UDP,
                    hop_limit: HOP_LIMIT,
                    src: src.octets(),
                    dst: dst.octets(),
                };
                wire::put(&mut bytes, 0, &eth(ethertype::IPV6))
                    .and_then(|at| wire::put(&mut bytes, at, &ip))
                    .and_then(|at| wire::put(&mut bytes, at, &udp));
                IpVersion::V6
            }
            _ => return Err(VersionMismatch),
        };
        Ok(Self {
            bytes,
            version,
            partial: partial.partial(),
        })
    }

    /// Octets it writes: [`LEN_V4`] or [`LEN_V6`].
    #[inline]
    #[allow(clippy::len_without_is_empty)]
    pub const fn len(&self) -> usize {
        match self.version {
            IpVersion::V4 => LEN_V4,
            IpVersion::V6 => LEN_V6,
        }
    }

    /// IP version of the path.
    #[inline]
    pub const fn version(&self) -> IpVersion {
        self.version
    }

    /// Sum of the IPv4 header with length and checksum zero; 0 for IPv6.
    pub(crate) const fn partial(&self) -> u16 {
        self.partial
    }

    /// Writes the headers of a UDP payload of `udp_payload_len` octets to the start of `out` and
    /// returns their length. `None`, if `out` is too short or the payload too long.
    #[inline]
    pub fn write(&self, out: &mut [u8], udp_payload_len: usize) -> Option<usize> {
        let udp_len = udp_payload_len.checked_add(udp::HEADER_LEN)?;
        match self.version {
            IpVersion::V4 => {
                let total = u16::try_from(udp_len.checked_add(ipv4::MIN_HEADER_LEN)?).ok()?;
                let out: &mut [u8; LEN_V4] = out.first_chunk_mut()?;
                *out = *self.bytes.first_chunk()?;
                let mut sum = Checksum::new();
                sum.add_u16(self.partial);
                sum.add_u16(total);
                wire::put(out, V4_TOTAL_LEN, &total.to_be_bytes())?;
                wire::put(out, V4_CHECKSUM, &sum.finish().to_be_bytes())?;
                wire::put(out, V4_UDP_LEN, &(udp_len as u16).to_be_bytes())?;
                Some(LEN_V4)
            }
            IpVersion::V6 => {
                let udp_len = u16::try_from(udp_len).ok()?.to_be_bytes();
                let out: &mut [u8; LEN_V6] = out.first_chunk_mut()?;
                *out = self.bytes;
                wire::put(out, V6_PAYLOAD_LEN, &udp_len)?;
                wire::put(out, V6_UDP_LEN, &udp_len)?;
                Some(LEN_V6)
            }
        }
    }
}

/// The UDP checksum of a packet whose headers (Ethernet, IPv6, UDP: [`LEN_V6`] octets, as
/// [`Template::write`] wrote them) are `headers` and whose UDP payload is `segments`. `None` if
/// `headers` are too short.
pub fn ipv6_udp_checksum<'a, I>(headers: &'a [u8], segments: I) -> Option<u16>
where
    I: IntoIterator<Item = &'a [u8]>,
    I::IntoIter: Clone,
{
    let ip: &Ipv6Header = wire::header(headers, ethernet::HEADER_LEN)?;
    let udp = headers.get(V6_UDP..LEN_V6)?;
    udp_checksum_v6(
        Ipv6Addr::from(ip.src),
        Ipv6Addr::from(ip.dst),
        std::iter::once(udp).chain(segments),
    )
}

/// Fills [`ipv6_udp_checksum`] into `headers`. `None`, and nothing written, if they are too short.
pub fn set_ipv6_udp_checksum(headers: &mut [u8], segments: &[&[u8]]) -> Option<u16> {
    let sum = ipv6_udp_checksum(headers, segments.iter().copied())?;
    wire::header_mut::<UdpHeader>(headers, V6_UDP)?.checksum = sum.into();
    Some(sum)
}

//! UDP and Geneve or VXLAN around a tenant's frame: the payload of ESP, or the plain tunnel of
//! an unprotected network.
//!
//! The UDP checksum. Over IPv4 it is zero. Over IPv6 zero is allowed for tunnels (RFC 6935, RFC
//! 8926 4.3.1), but a receiver must have opted in per port, and in ESP transport mode the
//! pseudo-header is that of the outer addresses: a Linux peer drops zero there unless its device
//! says `udp6zerocsumrx`. So over IPv6 the checksum is filled in with [`set_udp_checksum_v6`];
//! one of our own receivers does not need it, the ICV covers more.

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::checksum::udp_checksum_v6;
use crate::geneve::{self, GeneveHeader};
use crate::udp::{self, UdpHeader};
use crate::vni::Vni;
use crate::vxlan::{self, VxlanHeader};
use crate::wire::{self, Missing};

/// Octets of UDP and tunnel header, as we send them: the same for both encapsulations.
pub const HEADER_LEN: usize = udp::HEADER_LEN + geneve::HEADER_LEN;

/// How tenant frames are wrapped.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// RFC 8926.
    #[default]
    Geneve,
    /// RFC 7348.
    Vxlan,
}

/// Why a tunnel packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum TunnelError {
    /// The packet ends inside its headers.
    #[error("tunnel header truncated")]
    Truncated,
    /// The first segment ends inside the headers.
    #[error("tunnel header not in the first segment")]
    NotInHead,
    /// UDP length below 8 or beyond the packet.
    #[error("UDP length of the tunnel does not fit")]
    UdpLen,
    /// UDP destination port of neither encapsulation.
    #[error("neither Geneve nor VXLAN")]
    Port,
    /// Geneve version not 0.
    #[error("unknown Geneve version")]
    Version,
    /// Geneve's O bit: a control packet; we know none.
    #[error("Geneve control packet")]
    Control,
    /// Geneve payload is not an Ethernet frame.
    #[error("Geneve payload is not Ethernet")]
    Protocol,
    /// A critical Geneve option; we know none.
    #[error("unknown critical Geneve option")]
    CriticalOption,
    /// Geneve options do not add up to their length.
    #[error("malformed Geneve options")]
    Options,
    /// VXLAN without the I flag.
    #[error("VXLAN header without VNI")]
    NoVni,
}

impl From<Missing> for TunnelError {
    #[inline]
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Packet => Self::Truncated,
            Missing::Head => Self::NotInHead,
        }
    }
}

/// A parsed tunnel packet. Offsets count from the start of what was parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// Virtual network.
    pub vni: Vni,
    /// How it was wrapped.
    pub encapsulation: Encapsulation,
    /// Where the inner frame begins.
    pub inner: usize,
    /// Where it ends. What follows is TFC padding (RFC 4303, 2.7): see [`is_zero`].
    pub end: usize,
}

impl Encapsulation {
    /// UDP destination port (IANA).
    #[inline]
    pub const fn port(self) -> u16 {
        match self {
            Self::Geneve => geneve::PORT,
            Self::Vxlan => vxlan::PORT,
        }
    }

    /// By UDP destination port.
    #[inline]
    pub const fn from_port(port: u16) -> Option<Self> {
        match port {
            geneve::PORT => Some(Self::Geneve),
            vxlan::PORT => Some(Self::Vxlan),
            _ => None,
        }
    }

    /// Writes the 8 octets of the tunnel header at the start of `out`; `None` if too short.
    #[inline]
    pub fn write_header(self, out: &mut [u8], vni: Vni) -> Option<usize> {
        match self {
            Self::Geneve => wire::put(out, 0, &GeneveHeader::new(vni)),
            Self::Vxlan => wire::put(out, 0, &VxlanHeader::new(vni)),
        }
    }

    /// Writes UDP (checksum zero) and tunnel header, [`HEADER_LEN`] octets, before a frame of
    /// `inner_len`. `None`, if `out` is too short or the frame too long for UDP.
    #[inline]
    pub fn write(self, out: &mut [u8], sport: u16, vni: Vni, inner_len: usize) -> Option<usize> {
        let payload = inner_len.checked_add(geneve::HEADER_LEN)?;
        let header = UdpHeader::new(sport, self.port(), payload)?;
        let (udp, rest) = out.split_at_mut_checked(udp::HEADER_LEN)?;
        let len = self.write_header(rest, vni)?;
        Some(wire::put(udp, 0, &header)? + len)
    }
}

/// The headers that nearly every packet of a network has, to recognize them by: as
/// [`Encapsulation::write`] writes them, with any source port, length and checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usual {
    vni: Vni,
    encapsulation: Encapsulation,
    /// The tunnel header.
    header: [u8; geneve::HEADER_LEN],
}

impl Usual {
    /// For one network.
    pub fn new(encapsulation: Encapsulation, vni: Vni) -> Option<Self> {
        let mut header = [0; geneve::HEADER_LEN];
        encapsulation.write_header(&mut header, vni)?;
        Some(Self {
            vni,
            encapsulation,
            header,
        })
    }

    /// What [`parse_tunnel`] would find in a payload that lies in one piece. `None` decides
    /// nothing.
    #[inline(always)]
    pub fn recognize(&self, payload: &[u8]) -> Option<Tunnel> {
        let head: &[u8; HEADER_LEN] = payload.first_chunk()?;
        let [_, _, p0, p1, l0, l1, _, _, rest @ ..] = *head;
        let end = usize::from(u16::from_be_bytes([l0, l1]));
        let usual = u16::from_be_bytes([p0, p1]) == self.encapsulation.port()
            && u64::from_ne_bytes(rest) == u64::from_ne_bytes(self.header)
            && (HEADER_LEN..=payload.len()).contains(&end);
        usual.then_some(Tunnel {
            vni: self.vni,
            encapsulation: self.encapsulation,
            inner: HEADER_LEN,
            end,
        })
    }
}

/// [`Encapsulation::write`] for Geneve.
#[inline]
pub fn write_geneve(out: &mut [u8], sport: u16, vni: Vni, inner_len: usize) -> Option<usize> {
    Encapsulation::Geneve.write(out, sport, vni, inner_len)
}

/// [`Encapsulation::write`] for VXLAN.
#[inline]
pub fn write_vxlan(out: &mut [u8], sport: u16, vni: Vni, inner_len: usize) -> Option<usize> {
    Encapsulation::Vxlan.write(out, sport, vni, inner_len)
}

/// Parses the payload of ESP: a UDP header, which tells the encapsulation, and the tunnel header
/// behind it. `total_len` octets, of which `head` holds the first, without ESP's own padding
/// and trailer. The UDP checksum is not verified.
#[inline]
pub fn parse_tunnel(head: &[u8], total_len: usize) -> Result<Tunnel, TunnelError> {
    let head = head.get(..total_len).unwrap_or(head);
    let udp: &UdpHeader = wire::header_within(head, 0, total_len)?;
    let encapsulation = Encapsulation::from_port(udp.dport.get()).ok_or(TunnelError::Port)?;
    let end = udp.checked_len(total_len).ok_or(TunnelError::UdpLen)?;
    parse_at(encapsulation, head, udp::HEADER_LEN, end)
}

/// Parses the payload of a UDP datagram that came to the port of `encapsulation` in the clear.
/// `total_len` octets, of which `head` holds the first.
#[inline]
pub fn parse_clear(
    encapsulation: Encapsulation,
    head: &[u8],
    total_len: usize,
) -> Result<Tunnel, TunnelError> {
    let head = head.get(..total_len).unwrap_or(head);
    parse_at(encapsulation, head, 0, total_len)
}

#[inline]
fn parse_at(
    encapsulation: Encapsulation,
    head: &[u8],
    offset: usize,
    end: usize,
) -> Result<Tunnel, TunnelError> {
    let (vni, inner) = match encapsulation {
        Encapsulation::Geneve => geneve::parse(head, offset, end)?,
        Encapsulation::Vxlan => vxlan::parse(head, offset, end)?,
    };
    Ok(Tunnel {
        vni,
        encapsulation,
        inner,
        end,
    })
}

/// All octets from `start` on of the concatenated `segments` are zero, as TFC padding must be.
pub fn is_zero<'a>(segments: impl IntoIterator<Item = &'a [u8]>, start: usize) -> bool {
    let mut base = 0usize;
    let mut bits = 0;
    for segment in segments {
        if let Some(part) = segment.get(start.saturating_sub(base)..) {
            bits = part.iter().fold(bits, |bits, octet| bits | octet);
        }
        base = base.saturating_add(segment.len());
    }
    bits == 0
}

/// Fills in the UDP checksum over IPv6 in the UDP header at the start of `head`, of a datagram
/// that goes on in `rest`. `src` and `dst` are those of the IPv6 header it travels under.
/// `None`, and nothing written, if `head` is shorter than a UDP header.
pub fn set_udp_checksum_v6(
    head: &mut [u8],
    rest: &[&[u8]],
    src: Ipv6Addr,
    dst: Ipv6Addr,
) -> Option<u16> {
    let segments = std::iter::once(&*head).chain(rest.iter().copied());
    let sum = udp_checksum_v6(src, dst, segments)?;
    wire::header_mut::<UdpHeader>(head, 0)?.checksum = sum.into();
    Some(sum)
}

//! IPv6 (RFC 8200) and a bounded walk over its extension headers.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ip::{Fragment, protocol};
use crate::wire::{self, Missing};

/// Octets of the fixed header.
pub const HEADER_LEN: usize = size_of::<Ipv6Header>();
/// A packet with more extension headers than this is refused.
pub const MAX_EXTENSIONS: usize = 8;

/// The fixed header.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct Ipv6Header {
    /// Version (4 bits), traffic class (8), flow label (20).
    pub version_class_flow: U32,
    /// Octets behind this header.
    pub payload_len: U16,
    /// Protocol of the payload or type of the first extension header.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    /// Source address.
    pub src: [u8; 16],
    /// Destination address.
    pub dst: [u8; 16],
}

/// The first octets of most extension headers.
#[derive(Clone, Copy, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
struct Extension {
    next_header: u8,
    /// In units of 8 octets without the first 8 (AH: of 4 octets without the first 8).
    len: u8,
    /// Of a routing header.
    routing_type: u8,
    /// Of a routing header.
    segments_left: u8,
}

/// The fragment header (RFC 8200, 4.5).
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct FragmentHeader {
    /// Type of the first header of the fragmentable part.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// Offset in units of 8 octets (13 bits), reserved (2), more fragments (1).
    pub offset_more: U16,
    /// Identification of a datagram's fragments.
    pub id: U32,
}

/// Why an IPv6 packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
pub enum Ipv6Error {
    /// The packet ends inside its fixed header.
    #[error("IPv6 header truncated")]
    Truncated,
    /// The first segment ends inside the chain of headers.
    #[error("IPv6 headers not in the first segment")]
    NotInHead,
    /// Not version 6.
    #[error("IP version is not 6")]
    Version,
    /// Payload length beyond the frame.
    #[error("IPv6 payload length does not fit")]
    PayloadLen,
    /// An extension header reaches beyond the packet (RFC 7112 asks for all in one fragment).
    #[error("IPv6 extension header truncated")]
    ExtensionTruncated,
    /// More than [`MAX_EXTENSIONS`].
    #[error("too many IPv6 extension headers")]
    TooManyExtensions,
    /// A hop-by-hop header elsewhere than first, or a second fragment header.
    #[error("IPv6 extension header out of place")]
    ExtensionOrder,
}

/// A checked IPv6 packet and the end of its chain of headers.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6<'a> {
    /// The fixed header.
    pub header: &'a Ipv6Header,
    /// Protocol behind the extension headers. Of a later fragment: type of the first header of
    /// the fragmentable part.
    pub protocol: u8,
    /// Where that protocol's header is, or a later fragment's data.
    pub upper_offset: usize,
    /// Where the packet ends; what follows is padding of the frame.
    pub end: usize,
    /// Part of a datagram. An "atomic" fragment (RFC 6946) is a whole one.
    pub fragment: Fragment,
    /// The fragment header's identification, if there is one (atomic ones too).
    pub fragment_id: Option<u32>,
    /// A routing header names further segments: the destination is not the last one.
    pub routing: bool,
}

impl Ipv6Header {
    /// DSCP (6 bits) and ECN (2 bits).
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// The flow label, 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0xf_ffff
    }
}

impl<'a> Ipv6<'a> {
    /// Checks the packet at `offset` of `head`, in a frame of `frame_len` octets, and walks its
    /// extension headers: hop-by-hop, routing, destination options, fragment, AH. The walk ends
    /// at any other type (ESP and "no next header" among them).
    #[inline]
    pub fn parse(head: &'a [u8], offset: usize, frame_len: usize) -> Result<Self, Ipv6Error> {
        let header: &Ipv6Header = wire::header_within(head, offset, frame_len)?;
        if header.version_class_flow.get() >> 28 != 6 {
            return Err(Ipv6Error::Version);
        }
        let end = offset + HEADER_LEN + usize::from(header.payload_len.get());
        if end > frame_len {
            return Err(Ipv6Error::PayloadLen);
        }
        let mut packet = Self {
            header,
            protocol: header.next_header,
            upper_offset: offset + HEADER_LEN,
            end,
            fragment: Fragment::None,
            fragment_id: None,
            routing: false,
        };
        match packet.protocol {
            // The usual case stays short.
            protocol::TCP | protocol::UDP | protocol::ICMPV6 => Ok(packet),
            _ => packet.walk(head).map(|()| packet),
        }
    }

    fn walk(&mut self, head: &[u8]) -> Result<(), Ipv6Error> {
        for nth in 0..=MAX_EXTENSIONS {
            let current = self.protocol;
            match current {
                protocol::HOP_BY_HOP if nth > 0 => return Err(Ipv6Error::ExtensionOrder),
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DEST_OPTIONS
                | protocol::AH
                | protocol::FRAGMENT => {}
                _ => return Ok(()),
            }
            if nth == MAX_EXTENSIONS {
                break;
            }
            if current == protocol::FRAGMENT {
                let fragment: &FragmentHeader = self.extension(head)?;
                if self.fragment_id.replace(fragment.id.get()).is_some() {
                    return Err(Ipv6Error::ExtensionOrder);
                }
                let offset_more = fragment.offset_more.get();
                self.fragment = Fragment::new(offset_more >> 3, offset_more & 1 != 0);
                self.protocol = fragment.next_header;
                self.upper_offset += size_of::<FragmentHeader>();
                if self.fragment == Fragment::Later {
                    return Ok(());
                }
                continue;
            }
            let extension: &Extension = self.extension(head)?;
            let len = match current {
                protocol::AH => (usize::from(extension.len) + 2) * 4,
                _ => (usize::from(extension.len) + 1) * 8,
            };
            if current == protocol::ROUTING && extension.segments_left > 0 {
                self.routing = true;
            }
            self.protocol = extension.next_header;
            self.upper_offset += len;
            if self.upper_offset > self.end {
                return Err(Ipv6Error::ExtensionTruncated);
            }
        }
        Err(Ipv6Error::TooManyExtensions)
    }

    fn extension<'h, T>(&self, head: &'h [u8]) -> Result<&'h T, Ipv6Error>
    where
        T: FromBytes + KnownLayout + Immutable + Unaligned,
    {
        wire::header_within(head, self.upper_offset, self.end).map_err(|missing| match missing {
            Missing::Packet => Ipv6Error::ExtensionTruncated,
            Missing::Head => Ipv6Error::NotInHead,
        })
    }
}

impl From<Missing> for Ipv6Error {
    #[inline]
    fn from(missing: Missing) -> Self {
        match missing {
            Missing::Packet => Self::Truncated,
            Missing::Head => Self::NotInHead,
        }
    }
}

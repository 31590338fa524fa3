//! VXLAN (RFC 7348).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::tunnel::TunnelError;
use crate::vni::Vni;
use crate::wire;

/// UDP destination port (IANA).
pub const PORT: u16 = 4789;
/// Octets of the header.
pub const HEADER_LEN: usize = size_of::<VxlanHeader>();
/// The I flag: the VNI is valid.
pub const FLAG_VNI: u8 = 0x08;

/// The header (section 5). Reserved fields are zero when sent, ignored when received.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned,
)]
#[repr(C)]
pub struct VxlanHeader {
    /// [`FLAG_VNI`], seven reserved bits.
    pub flags: u8,
    /// Reserved.
    pub reserved1: [u8; 3],
    /// Virtual network.
    pub vni: [u8; 3],
    /// Reserved.
    pub reserved2: u8,
}

impl VxlanHeader {
    /// A header for `vni`.
    #[inline]
    pub fn new(vni: Vni) -> Self {
        Self {
            flags: FLAG_VNI,
            reserved1: [0; 3],
            vni: vni.to_bytes(),
            reserved2: 0,
        }
    }
}

/// Parses the header at `offset` of `head`, in a datagram that ends at `end`; returns the VNI
/// and where the inner frame begins.
#[inline]
pub fn parse(head: &[u8], offset: usize, end: usize) -> Result<(Vni, usize), TunnelError> {
    let header: &VxlanHeader = wire::header_within(head, offset, end)?;
    if header.flags & FLAG_VNI == 0 {
        return Err(TunnelError::NoVni);
    }
    Ok((Vni::from_bytes(header.vni), offset + HEADER_LEN))
}

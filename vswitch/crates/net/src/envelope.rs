//! All that comes before a protected frame over IPv4, as one template per tunnel: outer Ethernet,
//! IPv4 and UDP, room for ESP header and IV, inner UDP and tunnel header. Each packet is one copy
//! and four fields; ESP's own are its association's to write.

use crate::esp;
use crate::ip::IpVersion;
use crate::template::{LEN_V4, Template};
use crate::tunnel::{self, Encapsulation};
use crate::vni::Vni;

/// Octets before the frame.
pub const LEN: usize = LEN_V4 + ESP + tunnel::HEADER_LEN;

/// ESP header and IV.
const ESP: usize = esp::HEADER_LEN + esp::IV_LEN;
/// Where the UDP header inside ESP says how long it is.
const INNER_UDP_LEN: usize = LEN_V4 + ESP + 4;
/// Octets of outer IPv4 and UDP header.
const IP_UDP: usize = 28;

/// See the module's head.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Envelope {
    bytes: [u8; LEN],
    /// Sum of the IPv4 header with length and checksum zero.
    partial: u16,
}

impl Envelope {
    /// Where the ESP header begins.
    pub const ESP: usize = LEN_V4;

    /// For frames of a virtual network on a path; `None` if that is not IPv4.
    pub fn new(path: &Template, encapsulation: Encapsulation, vni: Vni) -> Option<Self> {
        if path.version() != IpVersion::V4 {
            return None;
        }
        let mut bytes = [0; LEN];
        path.write(&mut bytes, 0)?;
        let inner = bytes.get_mut(LEN_V4 + ESP..)?;
        encapsulation.write(inner, encapsulation.port(), vni, 0)?;
        // What depends on the length is zero, so that nothing of it is left if it were not written.
        for at in [16, 24, 38, INNER_UDP_LEN] {
            bytes.get_mut(at..at + 2)?.fill(0);
        }
        Some(Self {
            bytes,
            partial: path.partial(),
        })
    }

    /// Writes everything before a frame of `frame` octets, whose ESP packet from header to ICV has
    /// `esp` octets. `false`, and nothing is written, if that is too long for IPv4.
    #[inline(always)]
    pub fn write(&self, out: &mut [u8; LEN], esp: usize, frame: usize) -> bool {
        let (Ok(total), true) = (u16::try_from(esp + IP_UDP), frame < esp) else {
            return false;
        };
        // One carry at most, and none from adding it.
        let sum = u32::from(self.partial) + u32::from(total);
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        *out = self.bytes;
        [out[16], out[17]] = total.to_be_bytes();
        [out[24], out[25]] = sum.to_be_bytes();
        [out[38], out[39]] = (total - 20).to_be_bytes();
        let inner = (tunnel::HEADER_LEN + frame) as u16;
        [out[INNER_UDP_LEN], out[INNER_UDP_LEN + 1]] = inner.to_be_bytes();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MacAddr;
    use std::net::IpAddr;

    fn path(dst: &str, src: &str) -> Template {
        let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
        let (a, b) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        Template::new(a, b, src, dst, 50_000, 4500).unwrap()
    }

    /// Whatever the length, the same octets as by the parts that it is made of.
    #[test]
    fn agrees_with_the_headers_one_by_one() {
        let vni = Vni::new(0x12_3456).unwrap();
        for encapsulation in [Encapsulation::Geneve, Encapsulation::Vxlan] {
            let path = path("198.51.100.77", "192.0.2.1");
            let envelope = Envelope::new(&path, encapsulation, vni).unwrap();
            for frame in (0..9300).chain([60_000, 65_400]) {
                let sealed = esp::packet_len(tunnel::HEADER_LEN + frame);
                let mut expected = [0; LEN];
                path.write(&mut expected, sealed).unwrap();
                let inner = &mut expected[LEN_V4 + ESP..];
                encapsulation
                    .write(inner, encapsulation.port(), vni, frame)
                    .unwrap();
                let mut found = [0xff; LEN];
                assert!(envelope.write(&mut found, sealed, frame));
                found[LEN_V4..LEN_V4 + ESP].fill(0);
                assert_eq!(found, expected, "{frame}");
            }
        }
    }

    #[test]
    fn refuses_what_ipv4_does_not_carry() {
        let vni = Vni::new(7).unwrap();
        let v6 = path("2001:db8::2", "2001:db8::1");
        assert_eq!(Envelope::new(&v6, Encapsulation::Geneve, vni), None);
        let v4 = path("192.0.2.2", "192.0.2.1");
        let envelope = Envelope::new(&v4, Encapsulation::Geneve, vni).unwrap();
        let mut out = [7; LEN];
        assert!(!envelope.write(&mut out, 65_508, 65_400));
        assert_eq!(out, [7; LEN]);
        assert!(envelope.write(&mut out, 65_507, 65_400));
    }
}

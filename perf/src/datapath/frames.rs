//! The tenants' frames: IPv4 and UDP between one station at the near edge and many at the
//! far edge, so that every station there makes a flow of its own.

use std::net::Ipv4Addr;

use vswitch_net::{MacAddr, ipv4};

/// Stations behind the far edge, each with a MAC address and an IP address: flows.
pub const FLOWS: u16 = 1024;

/// Bytes of Ethernet, IPv4 and UDP headers: the smallest frame.
pub const HEADERS: usize = 42;

/// MAC address of the near edge's tenant.
pub const TENANT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
/// Its IP address.
pub const TENANT_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// MAC address of a station behind the far edge.
pub fn station_mac(flow: u16) -> MacAddr {
    let [high, low] = flow.to_be_bytes();
    MacAddr([2, 0, 0, 1, high, low])
}

/// Its IP address.
pub fn station_ip(flow: u16) -> Ipv4Addr {
    let [high, low] = flow.to_be_bytes();
    Ipv4Addr::new(10, 1, high, low)
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The near edge's tenant.
    Tenant,
    /// A station behind the far edge.
    Station,
}

/// Writes the frame of a flow into `out`, which it fills; with less than [`HEADERS`] bytes
/// of room it is cut short.
pub fn write(out: &mut [u8], sender: Sender, flow: u16) {
    let tenant = (TENANT_MAC, TENANT_IP);
    let station = (station_mac(flow), station_ip(flow));
    let ((src_mac, src_ip), (dst_mac, dst_ip)) = match sender {
        Sender::Tenant => (tenant, station),
        Sender::Station => (station, tenant),
    };
    let l3 = out.len().saturating_sub(14) as u16;
    let mut ip = [0; 20];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&l3.to_be_bytes());
    ip[8] = 64;
    ip[9] = 17;
    ip[12..16].copy_from_slice(&src_ip.octets());
    ip[16..20].copy_from_slice(&dst_ip.octets());
    let sum = ipv4::header_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut headers = [0; HEADERS];
    headers[..6].copy_from_slice(&dst_mac.0);
    headers[6..12].copy_from_slice(&src_mac.0);
    headers[12..14].copy_from_slice(&[0x08, 0x00]);
    headers[14..34].copy_from_slice(&ip);
    headers[34..36].copy_from_slice(&4000u16.to_be_bytes());
    headers[36..38].copy_from_slice(&5000u16.to_be_bytes());
    // A UDP checksum of zero is none, which IPv4 allows (RFC 768).
    headers[38..40].copy_from_slice(&l3.saturating_sub(20).to_be_bytes());
    let n = out.len().min(HEADERS);
    let (head, payload) = out.split_at_mut(n);
    head.copy_from_slice(&headers[..n]);
    payload.fill(0x5a);
}

#[cfg(test)]
mod tests {
    use super::*;
    use vswitch_net::{Frame, ipv4::Ipv4};

    #[test]
    fn frames_are_what_the_switch_takes_them_for() {
        for (sender, src, dst) in [
            (Sender::Tenant, TENANT_MAC, station_mac(1023)),
            (Sender::Station, station_mac(1023), TENANT_MAC),
        ] {
            let mut bytes = [0; 64];
            write(&mut bytes, sender, 1023);
            let frame = Frame::parse(&bytes, bytes.len()).expect("a good frame");
            assert_eq!((frame.src, frame.dst, frame.l3_end()), (src, dst, 64));
            let ip = Ipv4::parse(&bytes, 14, bytes.len()).expect("a good IPv4 packet");
            assert!(ip.checksum_ok());
        }
    }
}

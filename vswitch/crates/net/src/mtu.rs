//! What fits through a path: exact overhead of the overlay, both ways.

use serde::{Deserialize, Serialize};

use crate::ethernet;
use crate::ip::IpVersion;
use crate::tunnel::{self, Encapsulation};
use crate::{esp, geneve, udp, vxlan};

/// Whether a network's packets travel in ESP. AES-GCM and AES-GMAC cost the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protection {
    /// UDP-encapsulated ESP with 8-octet IV and 16-octet ICV.
    Esp,
    /// Plain Geneve or VXLAN.
    None,
}

/// How a tenant frame is wrapped on a path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Wrapping {
    /// Outer IP version.
    pub ip: IpVersion,
    /// Tunnel header.
    pub encapsulation: Encapsulation,
    /// With or without ESP.
    pub protection: Protection,
}

impl Wrapping {
    /// Octets of the tunnel header.
    const fn tunnel_len(self) -> usize {
        match self.encapsulation {
            Encapsulation::Geneve => geneve::HEADER_LEN,
            Encapsulation::Vxlan => vxlan::HEADER_LEN,
        }
    }

    /// Octets of the outer IP packet around a tenant frame of `frame_len` octets (no FCS).
    pub const fn outer_ip_len(self, frame_len: usize) -> usize {
        let tunnel = frame_len.saturating_add(self.tunnel_len());
        let payload = match self.protection {
            Protection::Esp => esp::packet_len(tunnel.saturating_add(udp::HEADER_LEN)),
            Protection::None => tunnel,
        };
        payload.saturating_add(self.ip.header_len() + udp::HEADER_LEN)
    }

    /// The longest tenant frame (Ethernet header and tags, no FCS) whose outer IP packet is no
    /// longer than `ip_mtu`; 0 if none fits.
    pub const fn max_inner_frame(self, ip_mtu: usize) -> usize {
        // UDP and IPv4 count in 16 bits (IPv6's payload would allow 40 more; UDP does not).
        let ip_mtu = if ip_mtu > 65535 { 65535 } else { ip_mtu };
        let headers = self.ip.header_len() + udp::HEADER_LEN;
        let room = ip_mtu.saturating_sub(headers);
        match self.protection {
            Protection::Esp => match esp::max_payload_len(room) {
                Some(payload) => payload.saturating_sub(udp::HEADER_LEN + self.tunnel_len()),
                None => 0,
            },
            Protection::None => room.saturating_sub(self.tunnel_len()),
        }
    }

    /// The tenant's IP MTU on a path of `ip_mtu`, for untagged frames; 0 if none fits.
    pub const fn inner_mtu(self, ip_mtu: usize) -> usize {
        self.max_inner_frame(ip_mtu)
            .saturating_sub(ethernet::HEADER_LEN)
    }
}

// `Wrapping` counts the tunnel header by itself, `tunnel` with UDP: both must agree.
const _: () = assert!(tunnel::HEADER_LEN == udp::HEADER_LEN + geneve::HEADER_LEN);
const _: () = assert!(geneve::HEADER_LEN == vxlan::HEADER_LEN);

//! What is left for tenants of a packet of the underlay, by the layout of `docs/wire-format.md`.

use super::types::Protection;

const IPV4: u16 = 20;
const IPV6: u16 = 40;
const UDP: u16 = 8;
/// SPI and sequence number (RFC 4303, section 2).
const ESP: u16 = 8;
/// Explicit IV (RFC 4106, section 3.1; RFC 4543, section 3.1).
const IV: u16 = 8;
const ICV: u16 = 16;
/// Pad length and next header.
const ESP_TRAILER: u16 = 2;
/// ESP's payload with its trailer is a multiple of this (RFC 4303, section 2.4).
const ESP_ALIGN: u16 = 4;
/// Geneve without options (RFC 8926, section 3.1); VXLAN's header is as long.
const OVERLAY: u16 = 8;
const ETHERNET: u16 = 14;

/// The largest tenant IP packet whose tunnel packet is no larger than `mtu`, the untagged
/// inner Ethernet header counted. Zero if there is no room.
pub(super) fn inner_mtu(mtu: u16, outer_is_ipv6: bool, protection: Protection) -> u16 {
    let outer = UDP + if outer_is_ipv6 { IPV6 } else { IPV4 };
    let room = match protection {
        Protection::None => mtu.saturating_sub(outer),
        Protection::Confidential | Protection::Integrity => {
            let payload = mtu.saturating_sub(outer + ESP + IV + ICV);
            (payload - payload % ESP_ALIGN).saturating_sub(ESP_TRAILER + UDP)
        }
    };
    room.saturating_sub(OVERLAY + ETHERNET)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fits_and_is_the_largest_that_fits() {
        for mtu in 1280..=9600 {
            for (v6, ip) in [(false, 20), (true, 40)] {
                let inner = inner_mtu(mtu, v6, Protection::Confidential);
                let packet = |inner: u16| {
                    let body = 8 + 8 + 14 + inner + 2;
                    ip + 8 + 8 + 8 + body.div_ceil(4) * 4 + 16
                };
                assert!(packet(inner) <= mtu && packet(inner + 1) > mtu, "{mtu}");
                let clear = inner_mtu(mtu, v6, Protection::None);
                assert_eq!(ip + 8 + 8 + 14 + clear, mtu);
            }
        }
        assert_eq!(inner_mtu(1500, false, Protection::Confidential), 1408);
        assert_eq!(inner_mtu(60, true, Protection::Integrity), 0);
    }
}

//! What drivers can do although they do not say so. Each line here is held by a test over
//! the driver itself; a newer driver that gives figures of its own is believed.

use dpdk_sys as sys;

use super::ethdev::{OVERHEAD, PortCaps};

/// Bytes of a packet socket's frame before the packet: header, address, alignment
/// (linux/if_packet.h, TPACKET_V2: 52 + 16, aligned to 16, less the Ethernet header).
const TPACKET_BYTES: u32 = 66;

/// Corrects what the driver announced.
pub(in crate::dpdk) fn correct(
    driver: &str,
    devargs: &str,
    info: &sys::rte_eth_dev_info,
    caps: &mut PortCaps,
) {
    let own_mtu = info.max_mtu != u16::MAX;
    match driver {
        // It takes chains and frees them.
        "net_null" => caps.tx_multi_segment = true,
        // It flattens chains, and reads a frame into as many buffers as it needs.
        "net_pcap" => {
            caps.tx_multi_segment = true;
            caps.rx_scatter = true;
        }
        // A packet spans as many buffers as it needs, in both directions.
        "net_memif" if !own_mtu => {
            caps.rx_scatter = true;
            caps.max_mtu = u16::MAX - OVERHEAD as u16;
        }
        "net_af_packet" if !own_mtu => {
            let frame = argument(devargs, "framesz").unwrap_or(2048);
            let payload = frame.saturating_sub(TPACKET_BYTES + OVERHEAD);
            caps.max_mtu = u16::try_from(payload).unwrap_or(u16::MAX);
        }
        _ => {}
    }
}

fn argument(devargs: &str, key: &str) -> Option<u32> {
    devargs
        .split(',')
        .find_map(|a| a.strip_prefix(key)?.strip_prefix('='))?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(driver: &str, devargs: &str, own_mtu: u16) -> PortCaps {
        let info = sys::rte_eth_dev_info {
            max_mtu: own_mtu,
            ..Default::default()
        };
        let mut caps = PortCaps {
            max_rx_queues: 1,
            max_tx_queues: 1,
            min_mtu: 68,
            max_mtu: 1500,
            tx_multi_segment: false,
            rx_scatter: false,
            rss_types: 0,
            reta_size: 0,
            hash_key_size: 0,
        };
        correct(driver, devargs, &info, &mut caps);
        caps
    }

    #[test]
    fn frames_of_a_packet_socket_bound_its_mtu() {
        let mtu = |args| corrected("net_af_packet", args, u16::MAX).max_mtu;
        assert_eq!(mtu("net_af_packet0,iface=e"), 2048 - 84);
        assert_eq!(
            mtu("net_af_packet0,iface=e,blocksz=16384,framesz=16384"),
            16384 - 84
        );
        assert_eq!(mtu("net_af_packet0,iface=e,framesz=10"), 0);
    }

    #[test]
    fn a_driver_that_gives_its_own_figure_is_believed() {
        assert_eq!(
            corrected("net_af_packet", "net_af_packet0", 9000).max_mtu,
            1500
        );
        assert_eq!(corrected("net_memif", "net_memif0", 2000).max_mtu, 1500);
        assert!(!corrected("net_af_xdp", "net_af_xdp0", 3542).tx_multi_segment);
    }
}

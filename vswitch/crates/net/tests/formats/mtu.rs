//! The arithmetic of overhead against packets really built.

use proptest::prelude::*;
use vswitch_net::mtu::{Protection, Wrapping};
use vswitch_net::{Encapsulation, IpVersion, MacAddr, Template, Vni};

/// Builds the whole outer packet around a frame of `frame_len` octets and returns the length
/// of its IP packet. The ESP part is put together by the letter of RFC 4303, figure 1.
fn build(wrapping: Wrapping, frame_len: usize) -> usize {
    let frame = vec![0xab; frame_len];
    let vni = Vni::new(5).unwrap();
    let mut payload = Vec::new();
    match wrapping.protection {
        Protection::None => {
            payload.resize(8, 0);
            wrapping
                .encapsulation
                .write_header(&mut payload, vni)
                .unwrap();
            payload.extend(&frame);
        }
        Protection::Esp => {
            payload.extend([0, 0, 1, 0, 0, 0, 0, 1]);
            payload.extend([0, 0, 0, 0, 0, 0, 0, 1]);
            let start = payload.len();
            payload.resize(start + 16, 0);
            wrapping
                .encapsulation
                .write(&mut payload[start..], 6081, vni, frame_len)
                .unwrap();
            payload.extend(&frame);
            let mut pad = 0u8;
            while !(payload.len() - start + 2).is_multiple_of(4) {
                pad += 1;
                payload.push(pad);
            }
            payload.extend([pad, 17]);
            payload.extend([0xcc; 16]);
        }
    }
    let (src, dst) = match wrapping.ip {
        IpVersion::V4 => ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()),
        IpVersion::V6 => (
            "2001:db8::1".parse().unwrap(),
            "2001:db8::2".parse().unwrap(),
        ),
    };
    let t = Template::new(MacAddr::ZERO, MacAddr::ZERO, src, dst, 1, 4500).unwrap();
    let mut packet = vec![0; t.len()];
    t.write(&mut packet, payload.len()).unwrap();
    packet.extend(payload);
    let ip_len = packet.len() - 14;
    // The packet says the same of itself.
    let said = match wrapping.ip {
        IpVersion::V4 => usize::from(u16::from_be_bytes([packet[16], packet[17]])),
        IpVersion::V6 => 40 + usize::from(u16::from_be_bytes([packet[18], packet[19]])),
    };
    assert_eq!(ip_len, said);
    ip_len
}

fn wrappings() -> Vec<Wrapping> {
    let mut all = Vec::new();
    for ip in [IpVersion::V4, IpVersion::V6] {
        for encapsulation in [Encapsulation::Geneve, Encapsulation::Vxlan] {
            for protection in [Protection::Esp, Protection::None] {
                all.push(Wrapping {
                    ip,
                    encapsulation,
                    protection,
                });
            }
        }
    }
    all
}

#[test]
fn figures_for_a_plain_underlay() {
    let figures: Vec<usize> = wrappings().iter().map(|w| w.inner_mtu(1500)).collect();
    // 1500 - 20 - 8 - 8 - 14 = 1450 in the clear over IPv4, 20 less over IPv6. In ESP: 1500 -
    // 20 - 8 - 32 = 1440, a multiple of 4; less trailer 2, UDP and tunnel 16, Ethernet 14.
    assert_eq!(figures, [1408, 1450, 1408, 1450, 1388, 1430, 1388, 1430]);
}

#[test]
fn paths_too_narrow_for_anything() {
    for wrapping in wrappings() {
        assert_eq!(wrapping.max_inner_frame(0), 0);
        assert_eq!(wrapping.inner_mtu(50), 0);
        assert_eq!(wrapping.outer_ip_len(usize::MAX), usize::MAX);
        // Nothing beyond what IP's and UDP's length fields count.
        let longest = wrapping.max_inner_frame(usize::MAX);
        assert!(longest > 65000 && build(wrapping, longest) <= 65535);
    }
}

proptest! {
    #[test]
    fn agrees_with_building(
        wrapping in prop::sample::select(wrappings()), frame in 0usize..9300, mtu in 140usize..9300,
    ) {
        prop_assert_eq!(wrapping.outer_ip_len(frame), build(wrapping, frame));
        let most = wrapping.max_inner_frame(mtu);
        prop_assert!(build(wrapping, most) <= mtu);
        prop_assert!(build(wrapping, most + 1) > mtu);
        prop_assert_eq!(wrapping.inner_mtu(mtu) + 14, most);
    }
}

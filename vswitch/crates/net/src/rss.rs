//! Receive-side scaling (RSS) as a network card does it: a Toeplitz hash of a packet's addresses and
//! ports, and a table that makes a receive queue of it. Whoever knows key and table knows beforehand to
//! which queue a flow will come.
//!
//! Source: Microsoft, Windows driver documentation, "RSS hashing types" and "Verifying the RSS hash
//! calculation" (the origin of what cards do; DPDK's `rte_softrss` is the same function).

use std::fmt;
use std::net::IpAddr;

use crate::ip::IpVersion;

/// Bytes of a key that matter: a hash of two IPv6 addresses and two ports takes 36, and 32 bits more.
pub const KEY_BYTES: usize = 40;

/// The key that Microsoft publishes with its test vectors; also the default of many drivers.
pub const PUBLISHED_KEY: [u8; KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0,
    0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c,
    0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
];

/// What tells packets of one UDP flow from those of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The sender's address.
    pub src: IpAddr,
    /// The receiver's, of the same IP version.
    pub dst: IpAddr,
    /// The sender's port.
    pub src_port: u16,
    /// The receiver's.
    pub dst_port: u16,
}

/// What of a UDP packet is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fields {
    /// Source and destination address.
    Addresses,
    /// And source and destination port.
    AddressesAndPorts,
}

/// The Toeplitz hash of a flow; `None` if its addresses are of two IP versions.
pub fn hash(key: &[u8; KEY_BYTES], flow: &Flow, fields: Fields) -> Option<u32> {
    let ports = match fields {
        Fields::Addresses => None,
        Fields::AddressesAndPorts => Some([flow.src_port, flow.dst_port]),
    };
    let ports = ports.into_iter().flatten().flat_map(u16::to_be_bytes);
    match (flow.src, flow.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let addresses = src.octets().into_iter().chain(dst.octets());
            Some(toeplitz(key, addresses.chain(ports)))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let addresses = src.octets().into_iter().chain(dst.octets());
            Some(toeplitz(key, addresses.chain(ports)))
        }
        _ => None,
    }
}

/// For each bit of the input that is set, the 32 bits of the key that begin at its place, all of them
/// added without carry. Takes no more input than the key is long for.
fn toeplitz(key: &[u8; KEY_BYTES], input: impl Iterator<Item = u8>) -> u32 {
    let mut hash = 0;
    for (window, byte) in key.windows(5).zip(input) {
        let window = window.iter().fold(0, |w, byte| w << 8 | u64::from(*byte));
        for bit in 0..8 {
            if byte & (0x80 >> bit) != 0 {
                hash ^= (window >> (8 - bit)) as u32;
            }
        }
    }
    hash
}

/// How a port spreads the UDP packets that it receives over its queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    key: [u8; KEY_BYTES],
    ipv4: Option<Fields>,
    ipv6: Option<Fields>,
    table: Box<[u16]>,
}

impl Spread {
    /// `ipv4` and `ipv6` are what is hashed of packets of these versions, `table` the queues by the
    /// low bits of the hash. `None` if no number of bits is enough for that: the table's length is not a
    /// power of two.
    pub fn new(
        key: [u8; KEY_BYTES],
        (ipv4, ipv6): (Option<Fields>, Option<Fields>),
        table: Vec<u16>,
    ) -> Option<Spread> {
        table.len().is_power_of_two().then(|| Spread {
            key,
            ipv4,
            ipv6,
            table: table.into_boxed_slice(),
        })
    }

    /// What is hashed of UDP packets.
    pub fn fields(&self, version: IpVersion) -> Option<Fields> {
        match version {
            IpVersion::V4 => self.ipv4,
            IpVersion::V6 => self.ipv6,
        }
    }

    /// Whether any flow comes to this queue.
    pub fn reaches(&self, queue: u16) -> bool {
        self.table.contains(&queue)
    }

    /// The queue that a flow comes to; `None` if it is not hashed.
    pub fn queue(&self, flow: &Flow) -> Option<u16> {
        let fields = self.fields(IpVersion::of(flow.dst))?;
        let hash = hash(&self.key, flow, fields)?;
        self.table
            .get(hash as usize & (self.table.len() - 1))
            .copied()
    }
}

/// As `Toeplitz of addresses and ports (IPv4), addresses (IPv6), table of 128`.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = |fields| match fields {
            None => "nothing",
            Some(Fields::Addresses) => "addresses",
            Some(Fields::AddressesAndPorts) => "addresses and ports",
        };
        let (v4, v6) = (what(self.ipv4), what(self.ipv6));
        write!(
            f,
            "Toeplitz of {v4} (IPv4), {v6} (IPv6), table of {}",
            self.table.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(src: &str, src_port: u16, dst: &str, dst_port: u16) -> Flow {
        Flow {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            src_port,
            dst_port,
        }
    }

    /// All that Microsoft publishes ("Verifying the RSS hash calculation"): with addresses alone, and
    /// with ports.
    #[test]
    fn hashes_are_those_that_are_published() {
        let published = [
            (
                ("66.9.149.187", 2794),
                ("161.142.100.80", 1766),
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                ("199.92.111.2", 14230),
                ("65.69.140.83", 4739),
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                ("24.19.198.95", 12898),
                ("12.22.207.184", 38024),
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
            (
                ("38.27.205.30", 48228),
                ("209.142.163.6", 2217),
                0x8298_9176,
                0xafc7_327f,
            ),
            (
                ("153.39.163.191", 44251),
                ("202.188.127.2", 1303),
                0x5d18_09c5,
                0x10e8_28a2,
            ),
            (
                ("3ffe:2501:200:1fff::7", 2794),
                ("3ffe:2501:200:3::1", 1766),
                0x2cc1_8cd5,
                0x4020_7d3d,
            ),
            (
                ("3ffe:501:8::260:97ff:fe40:efab", 14230),
                ("ff02::1", 4739),
                0x0f0c_461c,
                0xdde5_1bbf,
            ),
            (
                ("3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251),
                ("fe80::200:f8ff:fe21:67cf", 38024),
                0x4b61_e985,
                0x02d1_feef,
            ),
        ];
        for ((src, src_port), (dst, dst_port), addresses, all) in published {
            let flow = flow(src, src_port, dst, dst_port);
            let hash = |fields| hash(&PUBLISHED_KEY, &flow, fields);
            assert_eq!(hash(Fields::Addresses), Some(addresses), "{flow:?}");
            assert_eq!(hash(Fields::AddressesAndPorts), Some(all), "{flow:?}");
        }
    }

    #[test]
    fn what_is_not_hashed_has_no_queue() {
        let mixed = flow("192.0.2.1", 1, "2001:db8::1", 2);
        assert_eq!(hash(&PUBLISHED_KEY, &mixed, Fields::Addresses), None);
        let only_v4 = (Some(Fields::Addresses), None);
        let spread = Spread::new(PUBLISHED_KEY, only_v4, vec![0, 1]).unwrap();
        assert_eq!(
            spread.queue(&flow("2001:db8::2", 1, "2001:db8::1", 2)),
            None
        );
        assert_eq!(spread.queue(&mixed), None);
        // 0x323e8fc2 is even.
        let published = flow("66.9.149.187", 1, "161.142.100.80", 2);
        assert_eq!(spread.queue(&published), Some(0));
        assert!(spread.reaches(1) && !spread.reaches(2));
        for wrong in [0, 3, 100] {
            assert_eq!(Spread::new(PUBLISHED_KEY, only_v4, vec![0; wrong]), None);
        }
    }

    /// Between two addresses only the source port is free, and of that 14 bits. With this key they are
    /// enough for every place of any usual table, so no queue is out of reach.
    #[test]
    fn dynamic_source_ports_reach_every_place_of_a_table() {
        let table: Vec<u16> = (0..512).collect();
        let both = (
            Some(Fields::AddressesAndPorts),
            Some(Fields::AddressesAndPorts),
        );
        let spread = Spread::new(PUBLISHED_KEY, both, table).unwrap();
        for (src, dst) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
            let mut places = vec![0; 512];
            for port in 49152..=u16::MAX {
                let queue = spread.queue(&flow(src, port, dst, 4500)).unwrap();
                places[usize::from(queue)] += 1;
            }
            // The hash is linear: every place has the same share.
            assert!(places.iter().all(|n| *n == 16384 / 512), "{places:?}");
        }
    }
}

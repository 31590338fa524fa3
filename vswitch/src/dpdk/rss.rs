//! RSS of a port: what a driver is asked for, and, once the port runs, what it says that it does. Only
//! that is believed: of a driver that does not answer, nobody knows to which queue it brings a flow.

use dpdk_sys as sys;
use vswitch_net::rss::{Fields, KEY_BYTES, PUBLISHED_KEY, Spread};

use super::error::Errno;
use super::ethdev::Opened;

/// Why it cannot be told to which queue a port brings a flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSpread {
    /// Everything comes to that.
    #[error("there is one receive queue")]
    OneQueue,
    /// Not offered, or not asked for.
    #[error("there is no RSS")]
    NoRss,
    /// It does not answer.
    #[error("the driver does not tell {what}: {errno}")]
    Untold {
        /// Which part of it.
        what: &'static str,
        /// What it says instead.
        errno: Errno,
    },
    /// It answers, but leaves the key out.
    #[error("the driver does not tell its key")]
    NoKey,
    /// Another hash.
    #[error("its hash function is not Toeplitz")]
    Function,
    /// Of these flags (`RTE_ETH_RSS_*`) some change what is hashed of UDP packets.
    #[error("its hash types {0:#x} are not foreseen")]
    Types(u64),
    /// It is not the hash's low bits that choose.
    #[error("its redirection table has {0} entries, which is no power of two")]
    Table(u16),
}

/// Entries of [`sys::rte_eth_rss_reta_entry64`].
const GROUP: usize = sys::RTE_ETH_RETA_GROUP_SIZE as usize;

/// The key that drivers are asked to use: [`PUBLISHED_KEY`], and for those with longer ones its beginning
/// again. It is no secret, for that would not help: packets of one flow come to one queue under any
/// key, so whoever floods a worker can do so without it.
static KEY: [u8; 64] = {
    let mut key = [0; 64];
    let mut i = 0;
    while i < key.len() {
        key[i] = PUBLISHED_KEY[i % KEY_BYTES];
        i += 1;
    }
    key
};

/// What a driver is asked for: of the hash types that it offers those of IP, UDP and TCP, and our key, if
/// it says that its keys are as long.
pub(in crate::dpdk) fn asked(info: &sys::rte_eth_dev_info) -> sys::rte_eth_rss_conf {
    let mut conf = sys::rte_eth_rss_conf {
        rss_hf: info.flow_type_rss_offloads & sys::VS_RSS_IP_UDP_TCP,
        ..Default::default()
    };
    if (KEY_BYTES..=KEY.len()).contains(&usize::from(info.hash_key_size)) {
        // Drivers read it only: the type is also that of answers.
        conf.rss_key = KEY.as_ptr().cast_mut();
        conf.rss_key_len = info.hash_key_size;
    }
    conf
}

/// Leaves the key to the driver; whether it was asked for one.
pub(in crate::dpdk) fn forgo_key(conf: &mut sys::rte_eth_rss_conf) -> bool {
    let asked = !conf.rss_key.is_null();
    conf.rss_key = std::ptr::null_mut();
    conf.rss_key_len = 0;
    asked
}

/// What a running port with so many receive queues does.
pub(in crate::dpdk) fn read(port: &Opened, queues: u16) -> Result<Spread, NoSpread> {
    // Anew: the table's size may depend on the number of queues.
    let mut info = sys::rte_eth_dev_info::default();
    ask(port, "what it can do", |id| {
        // SAFETY: the port exists; the call fills `info`.
        unsafe { sys::rte_eth_dev_info_get(id, &mut info) }
    })?;
    let (types, key) = hashing(port, info.hash_key_size)?;
    let fields = fields(types)?;
    let size = info.reta_size;
    if !size.is_power_of_two() {
        return Err(NoSpread::Table(size));
    }
    let mut table = redirection(port, size)?;
    if !(0..queues).all(|queue| table.contains(&queue)) {
        let wanted: Vec<u16> = (0..queues).cycle().take(size.into()).collect();
        match redirect(port, &wanted) {
            Ok(()) => table = redirection(port, size)?,
            Err(errno) => tracing::warn!(
                port = %port.name, %errno,
                "the driver leaves some receive queues empty, and its table cannot be changed"
            ),
        }
    }
    Spread::new(key, fields, table).ok_or(NoSpread::Table(size))
}

fn ask(port: &Opened, what: &'static str, call: impl FnOnce(u16) -> i32) -> Result<(), NoSpread> {
    let untold = |errno| NoSpread::Untold { what, errno };
    port.ask(call).map_err(untold)
}

/// Hash types in effect (`RTE_ETH_RSS_*`) and the first bytes of the key.
fn hashing(port: &Opened, key_size: u8) -> Result<(u64, [u8; KEY_BYTES]), NoSpread> {
    let size = match key_size {
        0 => KEY_BYTES as u8, // What the interface says where a driver does not.
        size => size,
    };
    // Twice, into buffers that differ: what differs still, the driver has not written.
    let mut keys = [[0; 256], [0xff; 256]];
    let mut conf = sys::rte_eth_rss_conf::default();
    for key in &mut keys {
        conf = sys::rte_eth_rss_conf {
            rss_key: key.as_mut_ptr(),
            rss_key_len: size,
            ..Default::default()
        };
        ask(port, "its hash", |id| {
            // SAFETY: the port exists; the call fills `conf`, and `key`, which is longer than any
            // length that fits into `rss_key_len`.
            unsafe { sys::rte_eth_dev_rss_hash_conf_get(id, &mut conf) }
        })?;
    }
    // SAFETY: reads `conf` alone.
    if unsafe { sys::vs_rss_is_toeplitz(&conf) } == 0 {
        return Err(NoSpread::Function);
    }
    let [zeros, ones] = keys.each_ref().map(|key| key.first_chunk());
    let key = zeros.filter(|_| zeros == ones).ok_or(NoSpread::NoKey)?;
    Ok((conf.rss_hf, *key))
}

/// What is hashed of UDP over IPv4 and IPv6.
fn fields(types: u64) -> Result<(Option<Fields>, Option<Fields>), NoSpread> {
    if types & !sys::VS_RSS_PLAIN != 0 {
        return Err(NoSpread::Types(types));
    }
    let of = |addresses: u64, ports: u64| {
        if types & ports != 0 {
            Some(Fields::AddressesAndPorts)
        } else if types & addresses != 0 {
            Some(Fields::Addresses)
        } else {
            None
        }
    };
    Ok((
        of(sys::VS_RSS_IPV4, sys::VS_RSS_IPV4_UDP),
        of(sys::VS_RSS_IPV6, sys::VS_RSS_IPV6_UDP),
    ))
}

/// Groups of table entries, the first `size` of them marked.
fn groups(size: u16) -> Vec<sys::rte_eth_rss_reta_entry64> {
    let size = usize::from(size);
    let group = |number| sys::rte_eth_rss_reta_entry64 {
        mask: match size - number * GROUP {
            some @ 0..GROUP => (1 << some) - 1,
            _ => u64::MAX,
        },
        ..Default::default()
    };
    (0..size.div_ceil(GROUP)).map(group).collect()
}

/// The queues of the redirection table's entries.
fn redirection(port: &Opened, size: u16) -> Result<Vec<u16>, NoSpread> {
    let mut groups = groups(size);
    ask(port, "its redirection table", |id| {
        // SAFETY: the port exists; there are groups for `size` entries, which the call fills.
        unsafe { sys::rte_eth_dev_rss_reta_query(id, groups.as_mut_ptr(), size) }
    })?;
    let entries = groups.iter().flat_map(|group| group.reta);
    Ok(entries.take(size.into()).collect())
}

/// Has the table be this.
fn redirect(port: &Opened, table: &[u16]) -> Result<(), Errno> {
    let size = table.len() as u16;
    let mut groups = groups(size);
    for (group, queues) in groups.iter_mut().zip(table.chunks(GROUP)) {
        for (entry, queue) in group.reta.iter_mut().zip(queues) {
            *entry = *queue;
        }
    }
    port.ask(|id| {
        // SAFETY: as above; the call reads them.
        unsafe { sys::rte_eth_dev_rss_reta_update(id, groups.as_mut_ptr(), size) }
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use vswitch_net::rss::{Flow, hash};

    #[repr(align(4))]
    struct Aligned([u8; KEY_BYTES]);

    /// DPDK's own hash of the same bytes, which takes words.
    fn softrss(key: &[u8; KEY_BYTES], flow: &Flow, fields: Fields) -> u32 {
        let octets = |ip| match ip {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let mut bytes = [octets(flow.src), octets(flow.dst)].concat();
        if fields == Fields::AddressesAndPorts {
            bytes.extend(
                [flow.src_port, flow.dst_port]
                    .map(u16::to_be_bytes)
                    .concat(),
            );
        }
        let (words, rest) = bytes.as_chunks();
        assert!(rest.is_empty());
        let mut words: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
        let key = Aligned(*key);
        // SAFETY: reads `words`, and of the key, which is aligned for words, one word more than
        // of those: ten at most.
        unsafe { sys::vs_softrss(words.as_mut_ptr(), words.len() as u32, key.0.as_ptr()) }
    }

    #[test]
    fn our_hash_is_that_of_dpdk() {
        for _ in 0..2000 {
            let key = std::array::from_fn(|_| fastrand::u8(..));
            let (src, dst): (IpAddr, IpAddr) = if fastrand::bool() {
                (
                    fastrand::u32(..).to_be_bytes().into(),
                    fastrand::u32(..).to_be_bytes().into(),
                )
            } else {
                (
                    fastrand::u128(..).to_be_bytes().into(),
                    fastrand::u128(..).to_be_bytes().into(),
                )
            };
            let flow = Flow {
                src,
                dst,
                src_port: fastrand::u16(..),
                dst_port: fastrand::u16(..),
            };
            for fields in [Fields::Addresses, Fields::AddressesAndPorts] {
                let theirs = softrss(&key, &flow, fields);
                assert_eq!(hash(&key, &flow, fields), Some(theirs), "{key:?} {flow:?}");
            }
        }
    }

    #[test]
    fn hash_types_say_what_is_hashed() {
        let ports = Some(Fields::AddressesAndPorts);
        let addresses = Some(Fields::Addresses);
        assert_eq!(fields(sys::VS_RSS_IP_UDP_TCP), Ok((ports, ports)));
        assert_eq!(fields(0), Ok((None, None)));
        let mixed = sys::VS_RSS_IPV4 | sys::VS_RSS_IPV6_UDP;
        assert_eq!(fields(mixed), Ok((addresses, ports)));
        // Of UDP ports those of the source alone (RTE_ETH_RSS_L4_SRC_ONLY), say.
        let odd = sys::VS_RSS_IP_UDP_TCP | 1 << 61;
        assert_eq!(fields(odd), Err(NoSpread::Types(odd)));
    }

    #[test]
    fn a_key_is_asked_for_where_its_length_fits() {
        let mut info = sys::rte_eth_dev_info {
            flow_type_rss_offloads: u64::MAX,
            ..Default::default()
        };
        for (size, fits) in [
            (0, false),
            (16, false),
            (40, true),
            (52, true),
            (128, false),
        ] {
            info.hash_key_size = size;
            let mut conf = asked(&info);
            assert_eq!(conf.rss_hf, sys::VS_RSS_IP_UDP_TCP);
            assert_eq!(conf.rss_key_len, if fits { size } else { 0 });
            assert_eq!(!conf.rss_key.is_null(), fits);
            assert_eq!(forgo_key(&mut conf), fits);
            assert!(!forgo_key(&mut conf) && conf.rss_key_len == 0);
        }
    }

    #[test]
    fn groups_have_room_for_a_table() {
        let masks = |size| groups(size).iter().map(|g| g.mask).collect::<Vec<u64>>();
        assert_eq!(masks(2), [3]);
        assert_eq!(masks(64), [u64::MAX]);
        assert_eq!(masks(512), [u64::MAX; 8]);
        assert_eq!(masks(65), [u64::MAX, 1]);
    }
}

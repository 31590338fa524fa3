//! `devices`, and what they have in common with the ports of the underlay.

use std::ops::RangeInclusive;

use super::super::defaults;
use super::super::findings::{Findings, Once};
use super::super::model::Device;
use super::super::problem::KeyPath;
use super::super::raw;
use super::Context;

/// From what IPv6 needs (RFC 8200, section 5) to the jumbo frames of common NICs.
pub(super) const MTU: RangeInclusive<u64> = 1280..=9600;

/// DPDK has an array of this many ports, taps included (`RTE_MAX_ETHPORTS`).
const MAX_PORTS: usize = 32;

pub(super) fn check<'a>(
    cx: &mut Context<'a>,
    raw: &'a [raw::Device],
    used: &mut Once<&'a str>,
) -> Vec<Device> {
    let list = KeyPath::root().key("devices");
    if raw.len() > MAX_PORTS {
        cx.f.error(
            &list,
            format!("{} are too many: DPDK has {MAX_PORTS} ports", raw.len()),
        );
    }
    let one = |(i, device): (usize, &'a raw::Device)| {
        let path = list.index(i);
        device_string(cx.f, &path.key("device"), &device.device, used);
        Device {
            name: device.name.clone(),
            device: device.device.clone(),
            mtu: mtu(cx.f, &path.key("mtu"), device.mtu),
        }
    };
    raw.iter().enumerate().map(one).collect()
}

pub(super) fn mtu(f: &mut Findings, path: &KeyPath, written: Option<u64>) -> u16 {
    f.within(path, written.unwrap_or(defaults::MTU), MTU, "bytes")
}

/// DPDK's string for a port: the part before the first comma names it, once.
pub(super) fn device_string<'a>(
    f: &mut Findings,
    path: &KeyPath,
    text: &'a str,
    used: &mut Once<&'a str>,
) {
    let name = text.split(',').next().unwrap_or(text);
    if name.is_empty()
        || text
            .bytes()
            .any(|b| b.is_ascii_whitespace() || b.is_ascii_control())
    {
        f.error(
            path,
            format!(
                "{text:?} is neither a PCI address such as 0000:01:00.0 nor a virtual \
                     device such as net_af_packet0,iface=eth1"
            ),
        );
        return;
    }
    used.claim(f, path, name, format_args!("the device {name}"));
}

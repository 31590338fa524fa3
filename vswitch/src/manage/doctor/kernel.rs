//! What the kernel and its helpers must offer. (vhost-user needs nothing: it is all in
//! userspace.)

use super::finding::Finding;
use super::host::Host;
use super::needs::Needs;
use super::nics::present;

/// Where helper programs are.
const PATHS: [&str; 6] = [
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/usr/local/sbin",
    "/usr/local/bin",
];

fn program(host: &Host, name: &str) -> bool {
    PATHS
        .iter()
        .any(|path| host.exists(format!("{path}/{name}")))
}

pub(super) fn taps(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "tap";
    if needs.taps.is_empty() {
        return;
    }
    if !host.exists("/dev/net/tun") {
        let why = "exception ports to the kernel are taps";
        let finding = Finding::fail(NAME, "no /dev/net/tun", why);
        return out.push(
            finding
                .mend("modprobe tun")
                .mend("mkdir -p /dev/net && mknod /dev/net/tun c 10 200"),
        );
    }
    let mut free = true;
    for name in needs.taps.iter().filter(|name| present(host, name)) {
        free = false;
        let found = format!("the interface {name} is there already");
        let why = "another switch, or the configuration of the network, has taken the name";
        let finding = Finding::warn(NAME, found, why);
        out.push(finding.mend(format!("ip -d link show {name} && ip link delete {name}")));
    }
    if free {
        out.push(Finding::ok(
            NAME,
            format!("{} can be made", needs.taps.join(", ")),
        ));
    }
}

pub(super) fn xdp(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "af-xdp";
    if !needs.interfaces().any(|(.., xdp)| xdp) {
        return;
    }
    let protocols = host.text("/proc/self/net/protocols").unwrap_or_default();
    let mut names = protocols
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    if names.any(|name| name == "XDP") {
        return out.push(Finding::ok(NAME, "the kernel has XDP sockets"));
    }
    let finding = Finding::fail(
        NAME,
        "the kernel has no XDP sockets",
        "CONFIG_XDP_SOCKETS is off",
    );
    out.push(finding.mend("# net_af_packet in place of net_af_xdp, or another kernel"));
}

pub(super) fn guard(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "helpers";
    if needs.interfaces().next().is_none() {
        return;
    }
    let mut all = true;
    if !program(host, "nft") {
        all = false;
        let why = "without the guard the kernel answers beside the switch on af_packet's interface";
        out.push(Finding::fail(NAME, "no nft", why).mend("apt-get install nftables"));
    }
    if !program(host, "ethtool") {
        all = false;
        let why = "offloads stay on: TCP through the interface may stall";
        out.push(Finding::warn(NAME, "no ethtool", why).mend("apt-get install ethtool"));
    }
    if all {
        out.push(Finding::ok(NAME, "nft and ethtool are there"));
    }
}

//! What the process may do: root or the capabilities, and its limits.

use super::finding::{Finding, Level};
use super::host::{Capability, Host};
use super::needs::{DeviceKind, Needs};

const CHOWN: Capability = Capability("CAP_CHOWN", 0);
const FOWNER: Capability = Capability("CAP_FOWNER", 3);
const NET_ADMIN: Capability = Capability("CAP_NET_ADMIN", 12);
const NET_RAW: Capability = Capability("CAP_NET_RAW", 13);
/// Also decides whether the memory lock limit counts.
pub(super) const IPC_LOCK: Capability = Capability("CAP_IPC_LOCK", 14);
const SYS_ADMIN: Capability = Capability("CAP_SYS_ADMIN", 21);

/// Capabilities that the configuration needs, and what each is for.
pub(super) fn needed(needs: &Needs) -> Vec<(Capability, &'static str)> {
    let mut needed = Vec::new();
    let on_kernel = needs.interfaces().next().is_some();
    if !needs.taps.is_empty() || on_kernel {
        needed.push((NET_ADMIN, "taps, addresses and the guard beside af_packet"));
    }
    if on_kernel {
        needed.push((NET_RAW, "packet sockets"));
    }
    if needs.interfaces().any(|(.., xdp)| xdp) {
        needed.push((SYS_ADMIN, "af_xdp's program in the kernel"));
    }
    if needs.sockets.iter().any(|socket| socket.given_away) {
        needed.push((CHOWN, "owners of vhost sockets"));
        needed.push((FOWNER, "modes of vhost sockets"));
    }
    if needs.pci().next().is_some() {
        needed.push((IPC_LOCK, "memory that network cards write to"));
    }
    needed
}

pub(super) fn check(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "privileges";
    let Some(uid) = host.uid() else {
        let why = "without /proc neither DPDK nor the switch can work";
        let finding = Finding::fail(NAME, "/proc/self/status cannot be read", why);
        return out.push(finding.mend("mount -t proc proc /proc"));
    };
    let needed = needed(needs);
    let missing: Vec<String> = needed
        .iter()
        .filter(|(capability, _)| !host.has(*capability))
        .map(|(capability, what)| format!("{} ({what})", capability.0))
        .collect();
    if !missing.is_empty() {
        let found = format!("user {uid} lacks {}", missing.join(", "));
        let finding = Finding::fail(NAME, found, "the configuration needs them");
        let xdp = needs.interfaces().any(|(.., xdp)| xdp);
        let finding = if uid == 0 && xdp {
            finding.mend("# af_xdp: a drop-in with CapabilityBoundingSet=CAP_SYS_ADMIN and SystemCallFilter=bpf (systemctl edit vswitchd)")
        } else {
            finding.mend("# run it as root (sudo), or by the unit: systemctl start vswitchd")
        };
        return out.push(finding);
    }
    if uid != 0 {
        let why = "DPDK's files, hugepages and the state directory are root's as a rule";
        let finding = Finding::warn(NAME, format!("user {uid}, not root"), why);
        return out.push(
            finding.mend("# run it as root (sudo), or by the unit: systemctl start vswitchd"),
        );
    }
    out.push(Finding::ok(
        NAME,
        "root, with every capability that is needed",
    ));
}

/// RLIMIT_MEMLOCK: what a process without CAP_IPC_LOCK may lock.
pub(super) fn memlock(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "memlock";
    let Some(limit) = host.limit("Max locked memory") else {
        return;
    };
    if limit == u64::MAX {
        return out.push(Finding::ok(NAME, "unlimited"));
    }
    let limit_kb = limit >> 10;
    if host.has(IPC_LOCK) {
        let found = format!("{limit_kb} kB, which does not bind a process with CAP_IPC_LOCK");
        return out.push(Finding::ok(NAME, found));
    }
    // A network card's IOMMU needs all of DPDK's memory locked; keys need some pages.
    let pci = needs
        .devices
        .iter()
        .any(|d| matches!(d.kind, DeviceKind::Pci(_)));
    let (level, need_kb, what) = match pci {
        true => (Level::Fail, needs.memory_mb << 10, "the network card's DMA"),
        false => (Level::Warn, 1 << 10, "keys"),
    };
    if limit_kb >= need_kb {
        return out.push(Finding::ok(
            NAME,
            format!("{limit_kb} kB of {need_kb} kB needed"),
        ));
    }
    let found = format!("{limit_kb} kB may be locked, {need_kb} kB are needed for {what}");
    let why = "without CAP_IPC_LOCK the limit binds, and DPDK says no more than \"Cannot allocate memory\"";
    out.push(
        Finding::bad(level, NAME, found, why)
            .mend("ulimit -l unlimited")
            .mend("# for the service: LimitMEMLOCK=infinity in the unit (systemctl edit vswitchd)"),
    );
}

/// RLIMIT_NOFILE: sockets, guests' memory regions, two eventfds for each virtqueue.
pub(super) fn files(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "open-files";
    /// The process itself, DPDK, ports.
    const BASE: u64 = 256;
    /// A socket, its connection, and as many memory regions as vhost-user has.
    const PER_SOCKET: u64 = 2 + 8;
    const PER_PAIR: u64 = 4;
    let Some(limit) = host.limit("Max open files") else {
        return;
    };
    let needed = BASE + needs.sockets.len() as u64 * PER_SOCKET + needs.queue_pairs * PER_PAIR;
    if limit >= needed {
        return out.push(Finding::ok(
            NAME,
            format!("{limit} allowed, about {needed} needed"),
        ));
    }
    let found = format!("{limit} files may be open, about {needed} are needed");
    let why = "guests whose memory or eventfds find no descriptor are not connected";
    out.push(
        Finding::warn(NAME, found, why)
            .mend(format!(
                "ulimit -n {}",
                needed.next_power_of_two().max(65536)
            ))
            .mend("# for the service: LimitNOFILE=65536 in the unit (systemctl edit vswitchd)"),
    );
}

//! The ports that the configuration names: PCI devices and who drives them, the IOMMU, NUMA
//! nodes, and kernel interfaces.

use super::finding::{Finding, Level};
use super::host::{Host, commas};
use super::needs::Needs;

/// Drivers that hand a whole device to a process.
const USERSPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];
/// Drivers that stay while DPDK's own works beside them.
const BIFURCATED: [&str; 4] = ["mlx5_core", "mlx4_core", "mana", "gve"];

const DEVICES: &str = "/sys/bus/pci/devices";

pub(super) fn check(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    for (port, address) in needs.pci() {
        binding(host, &port.port, address, out);
        locality(host, needs, &port.port, address, out);
    }
}

fn binding(host: &Host, port: &str, address: &str, out: &mut Vec<Finding>) {
    const NAME: &str = "nic";
    let at = format!("{DEVICES}/{address}");
    if !host.exists(&at) {
        let found = format!("port {port}: no PCI device {address}");
        let finding = Finding::fail(NAME, found, "the bus has nothing there");
        return out.push(finding.mend("dpdk-devbind.py --status-dev net"));
    }
    let driver = host.link(format!("{at}/driver"));
    let bind = format!("modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci {address}");
    match driver.as_deref() {
        Some(driver) if BIFURCATED.contains(&driver) => {
            let found =
                format!("port {port}: {address} stays with {driver}, beside which DPDK works");
            out.push(Finding::ok(NAME, found));
        }
        Some(driver) if USERSPACE.contains(&driver) => {
            let found = format!("port {port}: {address} is bound to {driver}");
            out.push(Finding::ok(NAME, found));
            if driver == "vfio-pci" {
                group(host, port, address, out);
            }
        }
        Some(driver) => {
            let names = host.names(format!("{at}/net"));
            let interface = names
                .first()
                .map_or(String::new(), |n| format!(" (interface {n})"));
            let found = format!(
                "port {port}: {address} is bound to the kernel's driver {driver}{interface}"
            );
            let why = "DPDK cannot take it from there; the kernel loses the card, so not over the connection you are logged in by";
            let mut finding = Finding::fail(NAME, found, why);
            if let Some(name) = names.first() {
                finding = finding.mend(format!("ip link set {name} down"));
            }
            out.push(finding.mend(bind));
        }
        None => {
            let found = format!("port {port}: {address} has no driver");
            let why = "DPDK reaches it through vfio-pci";
            out.push(Finding::fail(NAME, found, why).mend(bind));
        }
    }
}

/// A group of the IOMMU goes to one process as a whole (Linux: vfio.rst).
fn group(host: &Host, port: &str, address: &str, out: &mut Vec<Finding>) {
    let members = host.names(format!("{DEVICES}/{address}/iommu_group/devices"));
    for other in members.iter().filter(|other| *other != address) {
        let at = format!("{DEVICES}/{other}");
        let bridge = host
            .text(format!("{at}/class"))
            .is_some_and(|c| c.starts_with("0x0604"));
        let driver = host.link(format!("{at}/driver"));
        if bridge || matches!(driver.as_deref(), None | Some("vfio-pci" | "pci-stub")) {
            continue;
        }
        let driver = driver.unwrap_or_default();
        let found = format!(
            "port {port}: {other} is in the IOMMU group of {address}, and {driver} drives it"
        );
        let why = "a group goes to one process as a whole (\"VFIO group is not viable\")";
        let finding = Finding::fail("nic", found, why);
        out.push(finding.mend(format!("dpdk-devbind.py --bind=vfio-pci {other}")));
    }
}

fn locality(host: &Host, needs: &Needs, port: &str, address: &str, out: &mut Vec<Finding>) {
    const NAME: &str = "numa-nic";
    let nodes = host.nodes();
    if nodes.len() < 2 || needs.cores.is_empty() {
        return;
    }
    // -1: the firmware does not say.
    let Some(node) = host.number(format!("{DEVICES}/{address}/numa_node")) else {
        return;
    };
    let far: Vec<u16> = needs
        .cores
        .iter()
        .copied()
        .filter(|core| {
            host.node_of_core(*core)
                .is_some_and(|n| u64::from(n) != node)
        })
        .collect();
    if far.is_empty() {
        return out.push(Finding::ok(
            NAME,
            format!("port {port} and all workers are on node {node}"),
        ));
    }
    let near = host
        .text(format!("/sys/devices/system/node/node{node}/cpulist"))
        .unwrap_or_default();
    let found = format!(
        "port {port} ({address}) is on NUMA node {node}, the workers on cores {} are not",
        commas(far)
    );
    let why = "each of their packets crosses between sockets";
    let finding = Finding::warn(NAME, found, why);
    out.push(finding.mend(format!(
        "# workers: {{cores: […]}} of {near}, the cores of node {node}"
    )));
}

/// What vfio needs of the machine.
pub(super) fn vfio(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "iommu";
    let mut bound = needs
        .pci()
        .map(|(_, a)| host.link(format!("{DEVICES}/{a}/driver")));
    let bifurcated = |d: &Option<String>| d.as_deref().is_some_and(|d| BIFURCATED.contains(&d));
    if needs.pci().next().is_none() || bound.all(|driver| bifurcated(&driver)) {
        return;
    }
    let no_iommu = "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode";
    if host.names("/sys/kernel/iommu_groups").is_empty() {
        if host.text(no_iommu).as_deref() == Some("Y") {
            let why =
                "the card can write to any memory of the host, and the switch needs CAP_SYS_RAWIO";
            let finding = Finding::warn(NAME, "none; vfio works without it", why);
            return out.push(
                finding
                    .mend("# switch it on in the firmware and by intel_iommu=on or amd_iommu=on"),
            );
        }
        let amd = host
            .text("/proc/cpuinfo")
            .is_some_and(|text| text.contains("AuthenticAMD"));
        let parameter = if amd {
            "amd_iommu=on"
        } else {
            "intel_iommu=on"
        };
        let why = "vfio-pci does not give a card away without one";
        return out.push(
            Finding::fail(NAME, "no IOMMU is in use", why)
                .mend(format!(
                    "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameter} iommu=pt /' /etc/default/grub && update-grub && reboot"
                ))
                .mend("# and switch VT-d or AMD-Vi on in the firmware; of a virtual machine without one:")
                .mend(format!("modprobe vfio enable_unsafe_noiommu_mode=1; echo 1 > {no_iommu}")),
        );
    }
    if !host.exists("/sys/bus/pci/drivers/vfio-pci") || !host.exists("/dev/vfio/vfio") {
        let why = "no PCI device can be given to DPDK";
        let finding = Finding::fail(NAME, "vfio-pci is not loaded", why);
        return out.push(finding.mend("modprobe vfio-pci"));
    }
    out.push(Finding::ok(NAME, "in use, vfio-pci loaded"));
}

/// Interfaces that af_packet and af_xdp use beside the kernel.
pub(super) fn interfaces(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "interface";
    for (port, name, _) in needs.interfaces() {
        if !present(host, name) {
            let found = format!(
                "port {}: no interface {name} in this network namespace",
                port.port
            );
            let finding = Finding::fail(
                NAME,
                found,
                "the driver would say no more than \"No such device\"",
            );
            out.push(finding.mend("ip -br link"));
            continue;
        }
        let of = |file: &str| host.text(format!("/sys/class/net/{name}/{file}"));
        let mtu = of("mtu").and_then(|mtu| mtu.parse::<u32>().ok());
        if let Some(mtu) = mtu.filter(|mtu| *mtu < u32::from(port.mtu)) {
            let found = format!(
                "port {}: {name} has MTU {mtu}, the configuration {}",
                port.port, port.mtu
            );
            let finding = Finding::warn(
                NAME,
                found,
                "larger packets would be lost; the start raises it if the device can",
            );
            out.push(finding.mend(format!("ip link set {name} mtu {}", port.mtu)));
        }
        // IFF_UP, netdevice(7).
        let flags =
            of("flags").and_then(|f| u32::from_str_radix(f.trim_start_matches("0x"), 16).ok());
        if flags.is_some_and(|flags| flags & 1 == 0) {
            let found = format!("port {}: {name} is down", port.port);
            let finding = Finding::bad(Level::Warn, NAME, found, "nothing comes in or goes out");
            out.push(finding.mend(format!("ip link set {name} up")));
        } else {
            out.push(Finding::ok(
                NAME,
                format!("port {}: {name} is there", port.port),
            ));
        }
    }
}

/// Whether the network namespace of this process has an interface. (`/sys/class/net` may be
/// another namespace's, that of the mount.)
pub(super) fn present(host: &Host, name: &str) -> bool {
    let text = host.text("/proc/self/net/dev").unwrap_or_default();
    text.lines()
        .any(|line| line.split_once(':').is_some_and(|(n, _)| n.trim() == name))
}

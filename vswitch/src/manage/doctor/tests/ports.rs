//! Network cards, interfaces, sockets, state and the service.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use super::*;

const CARD: &str = "/sys/bus/pci/devices/0000:01:00.0";

#[test]
fn a_card_of_the_kernels_is_named_with_its_interface() {
    let tree = Tree::healthy();
    tree.expect(
        &needs(),
        "nic",
        Level::Fail,
        &["no PCI device 0000:01:00.0", "dpdk-devbind.py"],
    );
    card(&tree);
    tree.expect(&needs(), "nic", Level::Ok, &["vfio-pci"]);
    tree.link(&format!("{CARD}/driver"), "../../../bus/pci/drivers/ixgbe");
    tree.file(&format!("{CARD}/net/enp1s0/mtu"), "1500");
    let bind = "modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci 0000:01:00.0";
    let says = [
        "kernel's driver ixgbe (interface enp1s0)",
        "ip link set enp1s0 down",
        bind,
    ];
    tree.expect(&needs(), "nic", Level::Fail, &says);
    assert!(
        start::check(&tree.host(), &needs())
            .iter()
            .any(|f| f.check == "nic")
    );
    tree.link(
        &format!("{CARD}/driver"),
        "../../../bus/pci/drivers/mlx5_core",
    );
    tree.expect(&needs(), "nic", Level::Ok, &["mlx5_core"]);
    assert_eq!(tree.of(&needs(), "iommu"), []);
    fs::remove_file(tree.dir.path().join(&CARD[1..]).join("driver")).unwrap();
    tree.expect(&needs(), "nic", Level::Fail, &["no driver", bind]);
}

#[test]
fn an_iommu_group_goes_as_a_whole() {
    let tree = Tree::healthy();
    card(&tree);
    tree.file("/sys/kernel/iommu_groups/7/devices/0000:01:00.1/x", "");
    tree.file("/sys/bus/pci/devices/0000:01:00.1/class", "0x020000");
    let other = "/sys/bus/pci/devices/0000:01:00.1/driver";
    tree.link(other, "../../../bus/pci/drivers/ixgbe");
    let found = tree.of(&needs(), "nic");
    assert_eq!(found.last().unwrap().level, Level::Fail);
    let line = found.last().unwrap().line();
    assert!(line.contains("ixgbe drives it"), "{line}");
    assert!(line.contains("--bind=vfio-pci 0000:01:00.1"), "{line}");
    // A bridge stays where it is.
    tree.file("/sys/bus/pci/devices/0000:01:00.1/class", "0x060400");
    tree.expect(&needs(), "nic", Level::Ok, &[]);
}

#[test]
fn vfio_needs_an_iommu_and_its_module() {
    let tree = Tree::healthy();
    card(&tree);
    tree.expect(&needs(), "iommu", Level::Ok, &[]);
    fs::remove_file(tree.dir.path().join("dev/vfio/vfio")).unwrap();
    tree.expect(&needs(), "iommu", Level::Fail, &["modprobe vfio-pci"]);
    fs::remove_dir_all(tree.dir.path().join("sys/kernel/iommu_groups")).unwrap();
    tree.expect(
        &needs(),
        "iommu",
        Level::Fail,
        &["intel_iommu=on", "enable_unsafe_noiommu_mode"],
    );
    tree.file("/proc/cpuinfo", "vendor_id : AuthenticAMD\n");
    tree.expect(&needs(), "iommu", Level::Fail, &["amd_iommu=on"]);
    tree.file(
        "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    tree.expect(&needs(), "iommu", Level::Warn, &["CAP_SYS_RAWIO"]);
}

#[test]
fn a_card_on_another_node_than_its_workers() {
    let tree = Tree::healthy();
    card(&tree);
    tree.expect(&needs(), "numa-nic", Level::Ok, &["node 0"]);
    tree.file(&format!("{CARD}/numa_node"), "1");
    let says = [
        "uplink",
        "NUMA node 1",
        "cores 1",
        "2-3, the cores of node 1",
    ];
    tree.expect(&needs(), "numa-nic", Level::Warn, &says);
    tree.file(&format!("{CARD}/numa_node"), "-1");
    assert_eq!(tree.of(&needs(), "numa-nic"), []);
}

#[test]
fn interfaces_and_taps() {
    let tree = Tree::healthy();
    let mut needs = needs();
    let interface = |name: &str, xdp| DeviceKind::Interface {
        name: name.into(),
        xdp,
    };
    needs.devices[0].kind = interface("eth1", false);
    tree.expect(&needs, "interface", Level::Ok, &["eth1"]);
    tree.file("/sys/class/net/eth1/flags", "0x1002");
    tree.expect(
        &needs,
        "interface",
        Level::Warn,
        &["eth1 is down", "ip link set eth1 up"],
    );
    tree.file("/sys/class/net/eth1/flags", "0x1003");
    tree.file("/sys/class/net/eth1/mtu", "1500");
    let found = tree.of(&needs, "interface");
    assert!(
        found[0].line().contains("ip link set eth1 mtu 1600"),
        "{found:?}"
    );
    needs.devices[0].kind = interface("eth7", false);
    tree.expect(
        &needs,
        "interface",
        Level::Fail,
        &["no interface eth7", "ip -br link"],
    );
    let missing = tree.of(&needs, "helpers");
    let lines: Vec<String> = missing.iter().map(Finding::line).collect();
    assert!(lines[0].contains("apt-get install nftables"), "{lines:?}");
    assert!(lines[1].contains("apt-get install ethtool"), "{lines:?}");
    tree.file("/usr/sbin/nft", "");
    tree.file("/sbin/ethtool", "");
    tree.expect(&needs, "helpers", Level::Ok, &[]);

    needs.devices[0].kind = interface("eth1", true);
    tree.expect(&needs, "af-xdp", Level::Fail, &["net_af_packet"]);
    tree.file(
        "/proc/self/net/protocols",
        "protocol  size\nXDP       960  0\n",
    );
    tree.expect(&needs, "af-xdp", Level::Ok, &[]);

    tree.expect(
        &needs,
        "tap",
        Level::Fail,
        &["/dev/net/tun", "modprobe tun"],
    );
    tree.file("/dev/net/tun", "");
    tree.expect(&needs, "tap", Level::Ok, &["vsw0"]);
    tree.file("/proc/self/net/dev", "Inter-|\n vsw0: 0 0\n");
    tree.expect(
        &needs,
        "tap",
        Level::Warn,
        &["vsw0 is there already", "ip link delete vsw0"],
    );
}

/// Ports whose sockets lie in the tree; the API's is one of the real `/run`'s names.
fn sockets() -> Needs {
    let socket = |path: &str, ours| Socket {
        of: "port vm-1".into(),
        path: path.into(),
        ours,
        given_away: false,
    };
    Needs {
        sockets: vec![
            socket("/run/vm/a.sock", true),
            socket("/run/qemu/b.sock", false),
        ],
        ..needs()
    }
}

#[test]
fn sockets_of_others_are_found_without_disturbing_them() {
    let tree = Tree::healthy();
    let needs = sockets();
    tree.expect(&needs, "sockets", Level::Ok, &["1 can be made"]);
    let unix = "Num RefCount Protocol Flags Type St Inode Path\n\
                0: 00000002 00000000 00010000 0001 01 4711 /run/vm/a.sock\n\
                0: 00000002 00000000 00010000 0001 01 4712 /run/qemu/b.sock\n";
    tree.file("/proc/self/net/unix", unix);
    tree.expect(
        &needs,
        "sockets",
        Level::Fail,
        &["another process", "ss -xlp src /run/vm/a.sock"],
    );
    tree.link("/proc/77/fd/5", "socket:[4711]");
    tree.file("/proc/77/comm", "vswitchd\n");
    tree.expect(
        &needs,
        "sockets",
        Level::Fail,
        &["vswitchd (process 77)", "kill 77"],
    );
    tree.file("/proc/77/comm", "qemu\n");
    tree.expect(
        &needs,
        "sockets",
        Level::Fail,
        &["qemu (process 77)", "ps -fp 77"],
    );
    // Connected, not listening.
    tree.file("/proc/self/net/unix", &unix.replace("00010000", "00000000"));
    tree.expect(&needs, "sockets", Level::Ok, &[]);
    tree.file("/run/vm/a.sock", "a file");
    tree.expect(&needs, "sockets", Level::Fail, &["is a file", "ls -ld"]);
}

#[test]
fn directories_of_sockets() {
    let tree = Tree::healthy();
    let needs = sockets();
    let found = tree.of(&needs, "socket-dir");
    assert!(
        found[0].line().contains("install -d -m 755 /run/vm"),
        "{found:?}"
    );
    tree.file("/run/qemu/x", "");
    tree.file("/run/vm/x", "");
    let mode = |mode| {
        let at = tree.dir.path().join("run/vm");
        fs::set_permissions(at, fs::Permissions::from_mode(mode)).unwrap();
        tree.of(&needs, "socket-dir")[0].clone()
    };
    assert_eq!(mode(0o755).level, Level::Ok);
    assert!(mode(0o777).line().contains("chmod 755 /run/vm"));
    assert_eq!(mode(0o1777).level, Level::Ok);
    assert!(mode(0o700).line().contains("chmod o+x /run/vm"));
}

#[test]
fn prefixes_in_use_and_leftovers() {
    use std::os::unix::fs::MetadataExt;
    let tree = Tree::healthy();
    let needs = sockets();
    tree.expect(&needs, "file-prefix", Level::Ok, &[]);
    tree.expect(&needs, "leftovers", Level::Ok, &[]);
    let config = "/var/run/dpdk/vswitch-a/config";
    tree.file(config, "");
    tree.expect(
        &needs,
        "leftovers",
        Level::Warn,
        &["rm -r /var/run/dpdk/vswitch-a"],
    );
    let meta = fs::metadata(tree.host().path(config)).unwrap();
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let lock = format!(
        "1: POSIX  ADVISORY  WRITE 88 {major:02x}:{minor:02x}:{} 0 EOF\n",
        meta.ino()
    );
    tree.file("/proc/locks", &lock);
    tree.file("/proc/88/comm", "dpdk-testpmd");
    let says = [
        "vswitch-a is in use by dpdk-testpmd (process 88)",
        "file-prefix: vswitch-a-2",
    ];
    tree.expect(&needs, "file-prefix", Level::Fail, &says);
    tree.expect(&needs, "leftovers", Level::Ok, &[]);
    tree.file("/dev/hugepages/rtemap_0", "");
    tree.expect(
        &needs,
        "leftovers",
        Level::Warn,
        &["1 files", "rm /dev/hugepages/*map_*"],
    );
    fs::remove_file(tree.dir.path().join("dev/hugepages/rtemap_0")).unwrap();
    // A socket that nobody listens on any more.
    fs::create_dir_all(tree.dir.path().join("run/vm")).unwrap();
    drop(UnixListener::bind(tree.dir.path().join("run/vm/a.sock")).unwrap());
    tree.expect(&needs, "leftovers", Level::Ok, &["nobody listens"]);
    // Somebody does, in another network namespace.
    let listens = "Num RefCount Protocol Flags Type St Inode Path\n\
                   0: 00000002 00000000 00010000 0001 01 4711 /run/vm/a.sock";
    tree.file("/proc/77/net/unix", listens);
    tree.link("/proc/77/ns/net", "net:[2]");
    let found = tree.of(&needs, "leftovers");
    assert!(
        found.iter().all(|f| !f.line().contains("nobody listens")),
        "{found:?}"
    );
    fs::remove_dir_all(tree.dir.path().join("proc/77")).unwrap();
    fs::remove_file(tree.dir.path().join("run/vm/a.sock")).unwrap();
    // Without a configuration, by the numbers of processes.
    let mut unknown = needs.clone();
    unknown.file_prefix = None;
    tree.file("/var/run/dpdk/vswitch-4242/x", "");
    tree.file("/proc/4242/comm", "vswitchd");
    tree.expect(&unknown, "leftovers", Level::Ok, &[]);
    fs::remove_dir_all(tree.dir.path().join("proc/4242")).unwrap();
    tree.expect(
        &unknown,
        "leftovers",
        Level::Warn,
        &["/var/run/dpdk/vswitch-4242"],
    );
}

#[test]
fn state_must_last() {
    let tree = Tree::healthy();
    let mut needs = needs();
    tree.expect(&needs, "state-dir", Level::Ok, &["made at the start"]);
    tree.file("/var/lib/vswitch/x", "");
    tree.expect(&needs, "state-dir", Level::Ok, &["on a disk"]);
    let at = tree.dir.path().join("var/lib/vswitch");
    fs::set_permissions(&at, fs::Permissions::from_mode(0o777)).unwrap();
    tree.expect(
        &needs,
        "state-dir",
        Level::Fail,
        &["chmod 700 /var/lib/vswitch"],
    );
    needs.state_dir = "/run/state".into();
    tree.expect(
        &needs,
        "state-dir",
        Level::Fail,
        &["tmpfs", "/var/lib/vswitch"],
    );
    needs.manual_keys = false;
    tree.expect(&needs, "state-dir", Level::Ok, &["tmpfs"]);
    needs.state_dir = "/mnt/state".into();
    tree.file(
        "/proc/self/mounts",
        "x / ext4 rw 0 0\ny /mnt ext4 ro,noatime 0 0\n",
    );
    tree.expect(
        &needs,
        "state-dir",
        Level::Fail,
        &["read-only", "ReadWritePaths="],
    );
}

#[test]
fn the_unit_and_its_drop_ins() {
    let tree = Tree::healthy();
    let needs = sockets();
    tree.expect(&needs, "service", Level::Ok, &["no vswitchd.service"]);
    let unit = include_str!("../../../../../scripts/vswitchd.service");
    tree.file("/etc/systemd/system/vswitchd.service", unit);
    let says = ["/run/vm is read-only", "ReadWritePaths=/run/vm"];
    tree.expect(&needs, "service", Level::Warn, &says);
    let drop_in = "/etc/systemd/system/vswitchd.service.d/paths.conf";
    tree.file(drop_in, "[Service]\nReadWritePaths=/run/vm\n");
    tree.expect(&needs, "service", Level::Ok, &[]);
    tree.file(
        drop_in,
        "[Service]\nReadWritePaths=/run/vm\nLimitMEMLOCK=64K\nLimitNOFILE=1024\n",
    );
    let lines: Vec<String> = tree
        .of(&needs, "service")
        .iter()
        .map(Finding::line)
        .collect();
    assert!(lines[0].contains("LimitMEMLOCK=infinity"), "{lines:?}");
    assert!(lines[1].contains("LimitNOFILE=65536"), "{lines:?}");
    let mut xdp = needs.clone();
    xdp.devices[0].kind = DeviceKind::Interface {
        name: "eth1".into(),
        xdp: true,
    };
    tree.file(drop_in, "[Service]\nReadWritePaths=/run/vm\n");
    let says = ["CapabilityBoundingSet=CAP_SYS_ADMIN"];
    tree.expect(&xdp, "service", Level::Warn, &says);
}

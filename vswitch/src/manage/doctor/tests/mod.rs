//! Every check on hosts that this machine is not: trees of files that say so.

mod machine;
mod ports;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::needs::{Device, DeviceKind};
use super::*;
use crate::manage::config::Memory;

/// A host in a temporary directory.
struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// Two nodes of two cores each (0, 1 and 2, 3), 2 GiB of free hugepages on both, cores 1
    /// and 3 isolated; root, no limit that binds.
    fn healthy() -> Tree {
        let tree = Tree {
            dir: tempfile::tempdir().unwrap(),
        };
        tree.file(
            "/proc/self/status",
            "Name:\tx\nUid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-3\n",
        );
        tree.limits("unlimited", "65536");
        tree.file(
            "/proc/self/mounts",
            "/dev/sda1 / ext4 rw,relatime 0 0\nnodev /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n\
             tmpfs /run tmpfs rw 0 0\n",
        );
        tree.file("/proc/meminfo", "Hugepagesize:       2048 kB\n");
        tree.file(
            "/proc/cpuinfo",
            "vendor_id\t: GenuineIntel\nflags\t\t: fpu tsc constant_tsc nonstop_tsc sse4_2 aes \
             pclmulqdq avx2 avx512f avx512bw avx512vl vaes vpclmulqdq\n",
        );
        tree.file(
            "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            "tsc",
        );
        tree.hugepages("/sys/kernel/mm/hugepages", 2048, 2048);
        for node in 0..2 {
            let at = format!("/sys/devices/system/node/node{node}");
            tree.hugepages(&format!("{at}/hugepages"), 1024, 1024);
            tree.file(&format!("{at}/cpulist"), ["0-1", "2-3"][node]);
        }
        for core in 0..4 {
            let at = format!("/sys/devices/system/cpu/cpu{core}");
            tree.file(&format!("{at}/node{}/x", core / 2), "");
            tree.file(
                &format!("{at}/topology/thread_siblings_list"),
                &core.to_string(),
            );
            tree.file(&format!("{at}/cpufreq/scaling_governor"), "performance");
        }
        tree.file("/sys/devices/system/cpu/online", "0-3");
        tree.file("/sys/devices/system/cpu/isolated", "1,3");
        tree.file("/sys/devices/system/cpu/nohz_full", "1,3");
        tree.file(
            "/proc/self/net/unix",
            "Num RefCount Protocol Flags Type St Inode Path\n",
        );
        tree.file("/proc/self/net/dev", "Inter-|\n face |\n  eth1: 0 0\n");
        tree
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn link(&self, path: &str, target: &str) {
        let path = self.dir.path().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _none_there = fs::remove_file(&path);
        symlink(target, path).unwrap();
    }

    fn hugepages(&self, at: &str, total: u64, free: u64) {
        self.file(
            &format!("{at}/hugepages-2048kB/nr_hugepages"),
            &total.to_string(),
        );
        self.file(
            &format!("{at}/hugepages-2048kB/free_hugepages"),
            &free.to_string(),
        );
    }

    fn limits(&self, memlock: &str, files: &str) {
        let text = format!(
            "Limit  Soft Limit  Hard Limit  Units\nMax open files  {files}  {files}  files\n\
             Max locked memory  {memlock}  {memlock}  bytes\n"
        );
        self.file("/proc/self/limits", &text);
    }

    fn host(&self) -> Host {
        Host::at(self.dir.path())
    }

    fn examine(&self, needs: &Needs) -> Vec<Finding> {
        examine(&self.host(), needs, "DPDK 22.11.7")
    }

    /// The findings of one check.
    fn of(&self, needs: &Needs, check: &str) -> Vec<Finding> {
        let findings = self.examine(needs);
        findings.into_iter().filter(|f| f.check == check).collect()
    }

    /// The one finding of a check is so bad, says all of this, and (if it is bad) why and
    /// what to do.
    #[track_caller]
    fn expect(&self, needs: &Needs, check: &str, level: Level, says: &[&str]) {
        let findings = self.of(needs, check);
        let [finding] = findings.as_slice() else {
            panic!("{check}: {findings:#?}");
        };
        assert_eq!(finding.level, level, "{finding:#?}");
        let line = finding.line();
        for part in says {
            assert!(line.contains(part), "no {part:?} in: {line}");
        }
        assert_eq!(level > Level::Ok, !finding.why.is_empty(), "{finding:#?}");
        assert_eq!(level > Level::Ok, !finding.mend.is_empty(), "{finding:#?}");
    }
}

/// One worker on each node, one port on a card of node 0.
fn needs() -> Needs {
    Needs {
        memory: Memory::Hugepages,
        pool_mb: 64,
        file_prefix: Some("vswitch-a".into()),
        cores: vec![1],
        devices: vec![Device {
            port: "uplink".into(),
            kind: DeviceKind::Pci("0000:01:00.0".into()),
            mtu: 1600,
        }],
        taps: vec!["vsw0".into()],
        ..Needs::default()
    }
}

/// The card of [`needs`], given to vfio, and what that needs.
fn card(tree: &Tree) {
    let at = "/sys/bus/pci/devices/0000:01:00.0";
    tree.file(&format!("{at}/numa_node"), "0");
    tree.file("/sys/bus/pci/drivers/vfio-pci/bind", "");
    tree.file("/dev/vfio/vfio", "");
    tree.file("/dev/net/tun", "");
    tree.file("/sys/kernel/iommu_groups/7/devices/0000:01:00.0/x", "");
    tree.link(&format!("{at}/driver"), "../../../bus/pci/drivers/vfio-pci");
    tree.link(
        &format!("{at}/iommu_group"),
        "../../../../kernel/iommu_groups/7",
    );
}

#[test]
fn a_healthy_host_has_nothing_to_mend() {
    let tree = Tree::healthy();
    card(&tree);
    let bad: Vec<Finding> = tree
        .examine(&needs())
        .into_iter()
        .filter(|finding| finding.level > Level::Ok)
        .collect();
    assert_eq!(bad, []);
    assert_eq!(start::check(&tree.host(), &needs()), []);
}

#[test]
fn an_empty_host_lacks_everything_and_nothing_panics() {
    let dir = tempfile::tempdir().unwrap();
    let findings = examine(&Host::at(dir.path()), &needs(), "DPDK 21.11.0");
    let failed = |check: &str| {
        findings
            .iter()
            .any(|f| f.check == check && f.level == Level::Fail)
    };
    for check in [
        "privileges",
        "dpdk",
        "hugepages",
        "cores",
        "nic",
        "iommu",
        "tap",
    ] {
        assert!(failed(check), "{check}: {findings:#?}");
    }
}

#[test]
fn a_configuration_is_read_or_its_mistake_reported() {
    let (finding, _) = configuration(Some(Path::new("/nowhere/nve.yaml")));
    assert_eq!(finding.level, Level::Fail);
    assert!(
        finding
            .line()
            .contains("vswitchd check --config /nowhere/nve.yaml")
    );
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("nve.yaml");
    fs::write(
        &file,
        "nve: {name: a}\nworkers: {cores: [0, 1], idle: yield}\nunderlay:\n  ports:\n    \
         - {name: up, device: \"0000:3b:00.0\", addresses: [192.0.2.1/24], tap: vsw0}\n",
    )
    .unwrap();
    let (finding, needs) = configuration(Some(&file));
    assert_eq!(finding.level, Level::Ok, "{finding:?}");
    assert_eq!((needs.cores, needs.poll), (vec![0, 1], false));
    assert_eq!(needs.taps, ["vsw0"]);
    assert_eq!(
        needs.devices[0].kind,
        DeviceKind::Pci("0000:3b:00.0".into())
    );
    // 16384 buffers of 2048 bytes and what belongs to them.
    assert_eq!(needs.pool_mb, 37);
}

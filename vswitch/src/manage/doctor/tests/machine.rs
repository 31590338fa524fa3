//! Privileges, memory, processor and cores.

use super::*;

#[test]
fn privileges_that_are_missing_are_named() {
    let tree = Tree::healthy();
    card(&tree);
    let status = |uid: u32, caps: u64| {
        format!("Uid:\t{uid}\t{uid}\t0\t0\nCapEff:\t{caps:016x}\nCpus_allowed_list:\t0-3\n")
    };
    tree.file("/proc/self/status", &status(1000, 0));
    let says = ["user 1000", "CAP_NET_ADMIN", "CAP_IPC_LOCK", "root"];
    tree.expect(&needs(), "privileges", Level::Fail, &says);
    let bits = 1 << 12 | 1 << 14;
    tree.file("/proc/self/status", &status(1000, bits));
    tree.expect(
        &needs(),
        "privileges",
        Level::Warn,
        &["user 1000, not root"],
    );
    tree.file("/proc/self/status", &status(0, bits));
    tree.expect(&needs(), "privileges", Level::Ok, &[]);
    // A container's root.
    let mut xdp = needs();
    xdp.devices[0].kind = DeviceKind::Interface {
        name: "eth1".into(),
        xdp: true,
    };
    let says = ["user 0 lacks", "CAP_SYS_ADMIN", "systemctl edit"];
    tree.expect(&xdp, "privileges", Level::Fail, &says);
}

#[test]
fn a_memory_lock_limit_binds_without_the_capability() {
    let tree = Tree::healthy();
    card(&tree);
    tree.limits("8388608", "65536");
    tree.expect(&needs(), "memlock", Level::Ok, &["8192 kB"]);
    let status = "Uid:\t0\t0\t0\t0\nCapEff:\t0000000000001000\nCpus_allowed_list:\t0-3\n";
    tree.file("/proc/self/status", status);
    let says = [
        "8192 kB",
        "1048576 kB are needed",
        "ulimit -l unlimited",
        "LimitMEMLOCK=infinity",
    ];
    tree.expect(&needs(), "memlock", Level::Fail, &says);
    let mut virtually = needs();
    virtually.devices.clear();
    tree.expect(&virtually, "memlock", Level::Ok, &[]);
    tree.limits("65536", "65536");
    tree.expect(&virtually, "memlock", Level::Warn, &["keys"]);
}

#[test]
fn open_files_are_counted() {
    let tree = Tree::healthy();
    tree.limits("unlimited", "1024");
    tree.expect(&needs(), "open-files", Level::Ok, &[]);
    let many = Needs {
        queue_pairs: 4 * 100,
        ..needs()
    };
    tree.expect(
        &many,
        "open-files",
        Level::Warn,
        &["1024", "ulimit -n 65536"],
    );
}

#[test]
fn hugepages_are_missing_used_up_or_not_mounted() {
    let tree = Tree::healthy();
    const AT: &str = "/sys/kernel/mm/hugepages";
    tree.expect(
        &needs(),
        "hugepages",
        Level::Ok,
        &["4096 MB free, 1024 MB needed"],
    );
    // Those in use stay in use.
    tree.hugepages(AT, 600, 100);
    let command = "echo 1012 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";
    let says = ["1024 MB are needed, 200 MB can be used", command];
    tree.expect(&needs(), "hugepages", Level::Fail, &says);
    tree.hugepages(AT, 2048, 2048);
    tree.file("/proc/self/mounts", "/dev/sda1 / ext4 rw 0 0\n");
    let says = [
        "no hugetlbfs",
        "mount -t hugetlbfs -o pagesize=2M nodev /dev/hugepages",
    ];
    tree.expect(&needs(), "hugepages", Level::Fail, &says);
    // By taste, and by need.
    let mut auto = needs();
    auto.memory = Memory::Auto;
    tree.expect(&auto, "hugepages", Level::Fail, &[]);
    auto.devices.clear();
    tree.expect(&auto, "hugepages", Level::Warn, &["ordinary pages"]);
    auto.memory = Memory::NoHuge;
    tree.expect(&auto, "hugepages", Level::Ok, &["no-huge"]);
}

#[test]
fn a_worker_needs_memory_of_its_own_node() {
    let tree = Tree::healthy();
    card(&tree);
    let mut needs = needs();
    needs.cores = vec![1, 3];
    let ok = tree.of(&needs, "numa-memory");
    assert_eq!(
        ok.iter().map(|f| f.level).collect::<Vec<_>>(),
        [Level::Ok; 2]
    );
    tree.hugepages("/sys/devices/system/node/node1/hugepages", 16, 16);
    let found = tree.of(&needs, "numa-memory");
    assert_eq!((found[0].level, found[1].level), (Level::Ok, Level::Fail));
    let line = found[1].line();
    let command =
        "echo 32 > /sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages";
    for part in ["node 1 has 32 MB", "cores 3", "64 MB", command] {
        assert!(line.contains(part), "no {part:?} in: {line}");
    }
}

#[test]
fn processors_and_libraries_that_are_too_old() {
    let tree = Tree::healthy();
    tree.expect(&needs(), "cpu", Level::Ok, &["AES-NI", "AVX-512", "VAES"]);
    tree.file("/proc/cpuinfo", "flags : fpu tsc sse4_2\n");
    tree.expect(
        &needs(),
        "cpu",
        Level::Warn,
        &["no AES instructions", "-cpu host"],
    );
    tree.file("/proc/cpuinfo", "flags : fpu tsc\n");
    tree.expect(&needs(), "cpu", Level::Fail, &["SSE4.2"]);
    for (version, level) in [
        ("DPDK 21.11.3", Level::Fail),
        ("DPDK 22.07.0", Level::Fail),
        ("DPDK 22.11.0-rc1", Level::Ok),
        ("DPDK 24.11.2", Level::Ok),
        ("", Level::Fail),
    ] {
        let findings = examine(&tree.host(), &needs(), version);
        let found = findings.iter().find(|f| f.check == "dpdk").unwrap();
        assert_eq!(found.level, level, "{version}");
    }
}

#[test]
fn clocks_that_are_slow_or_unsteady() {
    const AT: &str = "/sys/devices/system/clocksource/clocksource0";
    let tree = Tree::healthy();
    tree.file(&format!("{AT}/current_clocksource"), "hpet\n");
    tree.file(&format!("{AT}/available_clocksource"), "tsc hpet acpi_pm\n");
    let command = format!("echo tsc > {AT}/current_clocksource");
    tree.expect(&needs(), "clock", Level::Warn, &["hpet", &command]);
    tree.file(&format!("{AT}/available_clocksource"), "hpet\n");
    tree.expect(&needs(), "clock", Level::Warn, &["tsc=reliable"]);
    tree.file(
        "/proc/cpuinfo",
        "flags : fpu tsc constant_tsc sse4_2 aes pclmulqdq\n",
    );
    tree.expect(&needs(), "clock", Level::Warn, &["nonstop_tsc", "+invtsc"]);
}

#[test]
fn cores_are_usable_isolated_and_whole() {
    let tree = Tree::healthy();
    let on = |cores: &[u16]| Needs {
        cores: cores.to_vec(),
        ..needs()
    };
    tree.expect(&on(&[1, 3]), "isolation", Level::Ok, &[]);
    let says = [
        "core 2 is not isolated",
        "isolcpus=managed_irq,domain,1,2 nohz_full=1,2 rcu_nocbs=1,2",
    ];
    tree.expect(&on(&[1, 2]), "isolation", Level::Warn, &says);
    tree.expect(
        &on(&[1, 1]),
        "isolation",
        Level::Warn,
        &["2 workers on cores 1", "idle: yield"],
    );
    tree.expect(
        &on(&[1, 9]),
        "cores",
        Level::Fail,
        &["core 9", "0,1,2,3", "workers.cores"],
    );
    tree.file("/sys/devices/system/cpu/nohz_full", "(null)");
    tree.expect(
        &on(&[1]),
        "isolation",
        Level::Warn,
        &["tick runs on core 1"],
    );
    let gives_way = Needs {
        poll: false,
        ..on(&[0, 0])
    };
    tree.expect(&gives_way, "isolation", Level::Ok, &["idle: yield"]);
    // A partition of cpusets does as well.
    tree.file("/sys/devices/system/cpu/nohz_full", "0-3");
    tree.file("/sys/fs/cgroup/cpuset.cpus.isolated", "2");
    tree.expect(&on(&[1, 2]), "isolation", Level::Ok, &[]);

    tree.expect(&on(&[1, 3]), "hyperthreads", Level::Ok, &[]);
    for core in [1, 3] {
        tree.file(
            &format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list"),
            "1,3",
        );
    }
    tree.expect(
        &on(&[1, 3]),
        "hyperthreads",
        Level::Warn,
        &["1 and 3", "workers.cores"],
    );
    tree.file(
        "/sys/devices/system/cpu/cpu1/topology/thread_siblings_list",
        "0-1",
    );
    let command = "echo 0 > /sys/devices/system/cpu/cpu0/online";
    tree.expect(
        &on(&[1]),
        "hyperthreads",
        Level::Warn,
        &["0 beside 1", command],
    );

    tree.expect(&on(&[1]), "governor", Level::Ok, &["performance"]);
    tree.file(
        "/sys/devices/system/cpu/cpu1/cpufreq/scaling_governor",
        "powersave",
    );
    let command = "cpupower -c 1 frequency-set -g performance";
    tree.expect(
        &on(&[1]),
        "governor",
        Level::Warn,
        &["powersave on cores 1", command],
    );
}

//! Hugepages: enough of them, on the right NUMA nodes, mounted.

use super::finding::{Finding, Level};
use super::host::Host;
use super::needs::Needs;
use crate::dpdk::hugepages::{default_size, size_in_kib};
use crate::manage::config::Memory;

/// A pool of pages of one size.
struct Pool {
    kib: u64,
    total: u64,
    free: u64,
    mounted: bool,
}

impl Pool {
    fn free_mb(&self) -> u64 {
        self.free.saturating_mul(self.kib) >> 10
    }
}

fn pools(host: &Host, directory: &str) -> Vec<Pool> {
    let meminfo = host.text("/proc/meminfo").unwrap_or_default();
    let default = default_size(&meminfo);
    let mounts = host.mounts();
    let mounted: Vec<Option<u64>> = mounts
        .iter()
        .filter(|mount| mount.kind == "hugetlbfs")
        .map(|mount| {
            let mut sizes = mount
                .options
                .iter()
                .filter_map(|o| o.strip_prefix("pagesize="));
            sizes.next().map_or(default, size_in_kib)
        })
        .collect();
    let names = host.names(directory);
    let pool = |name: &String| {
        let kib = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let number = |file| host.number(format!("{directory}/{name}/{file}"));
        Some(Pool {
            kib,
            total: number("nr_hugepages")?,
            free: number("free_hugepages")?,
            mounted: mounted.contains(&Some(kib)),
        })
    };
    let mut pools: Vec<Pool> = names.iter().filter_map(pool).collect();
    pools.sort_by_key(|pool| pool.kib);
    pools
}

fn describe(pools: &[Pool]) -> String {
    let one = |p: &Pool| format!("{} of {} free of {} kB", p.free, p.total, p.kib);
    let all: Vec<String> = pools.iter().map(one).collect();
    if all.is_empty() {
        return "the kernel offers none".to_owned();
    }
    all.join(", ")
}

/// The command that makes `mb` more of them free on a node, or anywhere.
fn reserve(pools: &[Pool], mb: u64, node: Option<u32>) -> String {
    // Of the smallest size: larger ones cannot be had from fragmented memory.
    let (kib, total, free) = pools
        .first()
        .map_or((2048, 0, 0), |p| (p.kib, p.total, p.free));
    let used = total.saturating_sub(free);
    let pages = used + (mb << 10).div_ceil(kib.max(1));
    let directory = match node {
        None => "/sys/kernel/mm/hugepages".to_owned(),
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
    };
    format!("echo {pages} > {directory}/hugepages-{kib}kB/nr_hugepages")
}

/// Whether hugepages are used is what the other checks go by.
pub(super) fn check(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "hugepages";
    let pci = needs.pci().next().is_some();
    if needs.memory == Memory::NoHuge {
        if pci {
            let why = "a network card needs memory that stays where it is";
            let finding = Finding::warn(NAME, "the configuration does without", why);
            return out.push(finding.mend("# eal: {memory: hugepages}"));
        }
        return out.push(Finding::ok(NAME, "not used: `eal.memory: no-huge`"));
    }
    let pools = pools(host, "/sys/kernel/mm/hugepages");
    let usable: u64 = pools.iter().filter(|p| p.mounted).map(Pool::free_mb).sum();
    let free: u64 = pools.iter().map(Pool::free_mb).sum();
    let needed = needs.memory_mb;
    let all = describe(&pools);
    if usable >= needed {
        let found = format!("{usable} MB free, {needed} MB needed ({all})");
        return out.push(Finding::ok(NAME, found));
    }
    let must = pci || needs.memory == Memory::Hugepages;
    let (level, why) = match must {
        true => (Level::Fail, "the configuration cannot do without them"),
        false => (
            Level::Warn,
            "the switch will run on ordinary pages: slower, and without network cards",
        ),
    };
    if free >= needed {
        let found =
            format!("{free} MB are free, but no hugetlbfs of their size is mounted ({all})");
        let unmounted: Vec<u64> = pools
            .iter()
            .filter(|p| p.free > 0 && !p.mounted)
            .map(|p| p.kib)
            .collect();
        let mut finding = Finding::bad(level, NAME, found, why);
        for kib in unmounted {
            let at = format!("/dev/hugepages{}", if kib == 2048 { "" } else { "-1G" });
            finding = finding.mend(format!(
                "mkdir -p {at} && mount -t hugetlbfs -o pagesize={}M nodev {at}",
                kib >> 10
            ));
        }
        return out.push(finding);
    }
    let found = format!("{needed} MB are needed, {usable} MB can be used ({all})");
    let mut finding = Finding::bad(level, NAME, found, why).mend(reserve(&pools, needed, None));
    if !pools.iter().any(|p| p.mounted) {
        finding =
            finding.mend("mkdir -p /dev/hugepages && mount -t hugetlbfs nodev /dev/hugepages");
    }
    out.push(finding);
}

/// Each node with a worker needs the memory of its own buffers.
pub(super) fn numa(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "numa-memory";
    if needs.memory == Memory::NoHuge || host.nodes().len() < 2 {
        return;
    }
    let mut nodes: Vec<u32> = needs
        .cores
        .iter()
        .filter_map(|c| host.node_of_core(*c))
        .collect();
    nodes.sort_unstable();
    nodes.dedup();
    for node in nodes {
        let pools = pools(
            host,
            &format!("/sys/devices/system/node/node{node}/hugepages"),
        );
        let free: u64 = pools.iter().map(Pool::free_mb).sum();
        let (needed, all) = (needs.pool_mb, describe(&pools));
        if free >= needed {
            let found = format!("node {node}: {free} MB free, {needed} MB for buffers ({all})");
            out.push(Finding::ok(NAME, found));
            continue;
        }
        let must = needs.memory == Memory::Hugepages || needs.pci().next().is_some();
        let level = if must { Level::Fail } else { Level::Warn };
        let cores = super::host::commas(
            needs
                .cores
                .iter()
                .filter(|core| host.node_of_core(**core) == Some(node)),
        );
        let found = format!("node {node} has {free} MB of hugepages free ({all})");
        let why = format!(
            "the workers on cores {cores} are there, and their buffers need {needed} MB of its memory"
        );
        out.push(
            Finding::bad(level, NAME, found, why)
                .mend(reserve(&pools, needed, Some(node)))
                .mend("# or put `workers.cores` on a node that has hugepages"),
        );
    }
}

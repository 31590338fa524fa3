//! DPDK's heaps, from which pools, rings and queues are made, and the host's hugepages.

use std::fs;
use std::path::Path;

use dpdk_sys as sys;

use super::eal::{EalError, hold};

/// A heap of one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// The node.
    pub numa: u32,
    /// Bytes that it has.
    pub size: usize,
    /// Bytes that are given out.
    pub used: usize,
    /// Bytes of the largest piece that is free.
    pub largest_free: usize,
}

/// All heaps that have memory. Takes the heaps' locks: for people, not for the datapath.
pub fn heaps() -> Result<Vec<Heap>, EalError> {
    let _running = hold()?;
    // SAFETY: EAL runs.
    let nodes = unsafe { sys::rte_socket_count() };
    let heap = |index| {
        // SAFETY: EAL runs; the index is below the count. Negative: there is none.
        let node = unsafe { sys::rte_socket_id_by_idx(index) };
        let mut stats = sys::rte_malloc_socket_stats::default();
        // SAFETY: EAL runs, and there is room for the answer.
        let error = unsafe { sys::rte_malloc_get_socket_stats(node, &mut stats) };
        (error == 0 && stats.heap_totalsz_bytes > 0).then_some(Heap {
            numa: u32::try_from(node).ok()?,
            size: stats.heap_totalsz_bytes,
            used: stats.heap_allocsz_bytes,
            largest_free: stats.greatest_free_size,
        })
    };
    Ok((0..nodes).filter_map(heap).collect())
}

/// Hugepages of one size, on one NUMA node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pages {
    /// The node; `None` where the host has one only.
    pub numa: Option<u32>,
    /// Bytes of a page.
    pub size: u64,
    /// Pages that the kernel has set aside.
    pub total: u64,
    /// Of them, those that no process has.
    pub free: u64,
}

/// The host's hugepages, from sysfs; sizes of which there are none are left out.
pub fn hugepages() -> Vec<Pages> {
    hugepages_in(Path::new("/sys"))
}

fn hugepages_in(sysfs: &Path) -> Vec<Pages> {
    let nodes: Vec<(u32, _)> = list(&sysfs.join("devices/system/node"))
        .filter_map(|(name, path)| {
            let node = name.strip_prefix("node")?.parse().ok()?;
            Some((node, path.join("hugepages")))
        })
        .collect();
    let places = if nodes.len() > 1 {
        nodes.into_iter().map(|(n, p)| (Some(n), p)).collect()
    } else {
        vec![(None, sysfs.join("kernel/mm/hugepages"))]
    };
    let mut found: Vec<Pages> = places
        .iter()
        .flat_map(|(numa, place)| list(place).filter_map(|(name, path)| pages(*numa, &name, &path)))
        .filter(|pages| pages.total > 0)
        .collect();
    found.sort_by_key(|pages| (pages.numa, pages.size));
    found
}

fn list(directory: &Path) -> impl Iterator<Item = (String, std::path::PathBuf)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (name, entry.path())
    })
}

fn pages(numa: Option<u32>, name: &str, path: &Path) -> Option<Pages> {
    let kib: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let number = |file: &str| -> Option<u64> {
        let text = fs::read_to_string(path.join(file)).ok()?;
        text.trim().parse().ok()
    };
    Some(Pages {
        numa,
        size: kib * 1024,
        total: number("nr_hugepages")?,
        free: number("free_hugepages")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, place: &str, total: u64, free: u64) {
        let place = root.join(place);
        fs::create_dir_all(&place).unwrap();
        fs::write(place.join("nr_hugepages"), format!("{total}\n")).unwrap();
        fs::write(place.join("free_hugepages"), format!("{free}\n")).unwrap();
    }

    #[test]
    fn pages_are_told_by_node_where_there_are_several() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "kernel/mm/hugepages/hugepages-2048kB", 30, 7);
        write(root.path(), "kernel/mm/hugepages/hugepages-1048576kB", 0, 0);
        let node = |n: u32| format!("devices/system/node/node{n}/hugepages/hugepages-2048kB");
        write(root.path(), &node(0), 20, 5);
        let expected = |numa, total, free| Pages {
            numa,
            size: 2 << 20,
            total,
            free,
        };
        assert_eq!(hugepages_in(root.path()), [expected(None, 30, 7)]);
        write(root.path(), &node(1), 10, 2);
        assert_eq!(
            hugepages_in(root.path()),
            [expected(Some(0), 20, 5), expected(Some(1), 10, 2)]
        );
    }
}

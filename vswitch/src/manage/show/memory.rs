//! Who has what memory.

use super::table::{Cell, Left, Right, Table};
use super::units;
use crate::manage::status::{Heap, Memory, Pages, Pool, Ring, Tables};

/// `show memory`.
pub(super) fn memory(memory: &Memory) -> String {
    if *memory == Memory::default() {
        return "No memory is reported.\n".to_owned();
    }
    let of = if memory.hugepages {
        "hugepages"
    } else {
        "ordinary pages"
    };
    let tables = [
        pages(&memory.pages),
        heaps(&memory.heaps),
        pools(&memory.pools),
        rings(&memory.rings),
        owners(&memory.tables),
    ];
    let tables: Vec<String> = tables.into_iter().flatten().collect();
    format!("DPDK's memory: {of}\n\n{}", tables.join("\n"))
}

fn bytes(n: u64) -> Cell {
    Cell::from(units::memory(n))
}

fn pages(pages: &[Pages]) -> Option<String> {
    let mut table = Table::new([
        ("HUGEPAGES", Left),
        ("NODE", Right),
        ("PAGES", Right),
        ("IN USE", Right),
        ("FREE", Right),
    ]);
    for pages in pages {
        table.row([
            bytes(pages.size),
            Cell::option(pages.numa),
            pages.total.into(),
            pages.total.saturating_sub(pages.free).into(),
            pages.free.into(),
        ]);
    }
    (!pages.is_empty()).then(|| table.to_string())
}

fn heaps(heaps: &[Heap]) -> Option<String> {
    let mut table = Table::new([
        ("HEAP OF NODE", Left),
        ("SIZE", Right),
        ("USED", Right),
        ("SHARE", Right),
        ("LARGEST FREE", Right),
    ]);
    for heap in heaps {
        table.row([
            heap.numa.into(),
            bytes(heap.size),
            bytes(heap.used),
            units::share(heap.used, heap.size).into(),
            bytes(heap.largest_free),
        ]);
    }
    (!heaps.is_empty()).then(|| table.to_string())
}

fn pools(pools: &[Pool]) -> Option<String> {
    let mut table = Table::new([
        ("POOL", Left),
        ("PORT", Left),
        ("NODE", Right),
        ("BUFFERS", Right),
        ("IN USE", Right),
        ("SHARE", Right),
        ("CACHED", Right),
        ("MEMORY", Right),
    ]);
    for pool in pools {
        table.row([
            Cell::from(&pool.name),
            Cell::option(pool.port.as_ref()),
            Cell::option(pool.numa),
            pool.size.into(),
            pool.in_use.into(),
            units::share(pool.in_use, pool.size).into(),
            pool.cached.into(),
            bytes(pool.bytes),
        ]);
    }
    (!pools.is_empty()).then(|| table.to_string())
}

fn rings(rings: &[Ring]) -> Option<String> {
    let mut table = Table::new([("RING", Left), ("SIZE", Right), ("USED", Right)]);
    for ring in rings {
        let name = format!("worker {} to {}", ring.from, ring.to);
        table.row([name.into(), ring.size.into(), ring.used.into()]);
    }
    (!rings.is_empty()).then(|| table.to_string())
}

fn owners(owners: &[Tables]) -> Option<String> {
    let mut table = Table::new([
        ("TABLES OF", Left),
        ("FDB ENTRIES", Right),
        ("ROOM FOR", Right),
        ("FDB", Right),
        ("SAS", Right),
        ("SA MEMORY", Right),
        ("KEYS", Right),
        ("COUNTERS", Right),
    ]);
    for owner in owners {
        let name = owner
            .worker
            .map_or_else(|| "control".to_owned(), |worker| format!("worker {worker}"));
        table.row([
            Cell::from(name),
            owner.fdb_entries.into(),
            owner.fdb_capacity.into(),
            bytes(owner.fdb_bytes),
            owner.sas.into(),
            bytes(owner.sa_bytes),
            bytes(owner.key_bytes),
            bytes(owner.counter_bytes),
        ]);
    }
    (!owners.is_empty()).then(|| table.to_string())
}

//! What the configuration asks of this very host.

use std::collections::BTreeSet;
use std::fs;

use super::findings::Findings;
use super::model::Model;
use super::problem::KeyPath;
use super::types::Memory;

/// What a host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// Cores this process may run on.
    pub cores: BTreeSet<u16>,
    /// Whether hugepages of any size are allocated.
    pub hugepages: bool,
}

impl HostFacts {
    /// Those of this host, as far as this process may use it. What cannot be found out is
    /// taken as missing.
    pub fn discover() -> Self {
        let set = rustix::thread::sched_getaffinity(None).ok();
        let cores = (0..rustix::thread::CpuSet::MAX_CPU)
            .filter(|core| set.is_some_and(|set| set.is_set(*core)))
            .filter_map(|core| u16::try_from(core).ok())
            .collect();
        let pools = fs::read_dir("/sys/kernel/mm/hugepages");
        let hugepages = pools.into_iter().flatten().flatten().any(|pool| {
            fs::read_to_string(pool.path().join("nr_hugepages"))
                .ok()
                .and_then(|text| text.trim().parse::<u64>().ok())
                .is_some_and(|pages| pages > 0)
        });
        Self { cores, hugepages }
    }
}

/// Reports what `host` does not have.
pub(super) fn check(model: &Model, host: &HostFacts, f: &mut Findings) {
    let root = KeyPath::root();
    for (i, core) in model.workers.cores.iter().enumerate() {
        if !host.cores.contains(core) {
            let path = root.key("workers").key("cores").index(i);
            let usable = list(&host.cores);
            f.error(
                &path,
                format!("this process cannot run on core {core}; it can on {usable}"),
            );
        }
    }
    if model.eal.memory == Memory::Hugepages && !host.hugepages {
        f.error(
            &root.key("eal").key("memory"),
            "this host has no hugepages: write a number to /proc/sys/vm/nr_hugepages, or say \
             `memory: auto`",
        );
    }
}

/// `0-3,8`.
fn list(cores: &BTreeSet<u16>) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    for core in cores {
        match runs.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(*core) => *last = *core,
            _ => runs.push((*core, *core)),
        }
    }
    let runs: Vec<String> = runs
        .iter()
        .map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        })
        .collect();
    if runs.is_empty() {
        "none".to_owned()
    } else {
        runs.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_runs() {
        assert_eq!(
            list(&BTreeSet::from([0, 1, 2, 5, 8, 9, u16::MAX])),
            "0-2,5,8-9,65535"
        );
        assert_eq!(list(&BTreeSet::new()), "none");
    }

    #[test]
    fn finds_at_least_the_core_it_runs_on() {
        assert!(!HostFacts::discover().cores.is_empty());
    }
}

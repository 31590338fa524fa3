//! The workers' cores: usable, not shared with the rest of the host, not two halves of one.

use std::collections::BTreeSet;

use super::finding::Finding;
use super::host::{Host, commas, cpu_list};
use super::needs::Needs;

/// Cores that the scheduler leaves alone: by `isolcpus`, or as a partition of cpusets.
fn isolated(host: &Host) -> BTreeSet<u16> {
    let by_boot = host
        .text("/sys/devices/system/cpu/isolated")
        .unwrap_or_default();
    let by_cpuset = host
        .text("/sys/fs/cgroup/cpuset.cpus.isolated")
        .unwrap_or_default();
    let mut cores = cpu_list(&by_boot);
    cores.extend(cpu_list(&by_cpuset));
    cores
}

pub(super) fn usable(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "cores";
    let allowed = host.cores();
    let missing: BTreeSet<u16> = needs
        .cores
        .iter()
        .copied()
        .filter(|c| !allowed.contains(c))
        .collect();
    if missing.is_empty() {
        let cores = if needs.cores.is_empty() {
            format!("{} may be used", allowed.len())
        } else {
            format!("workers on {}", commas(&needs.cores))
        };
        return out.push(Finding::ok(NAME, cores));
    }
    let missing = commas(missing);
    let online = cpu_list(
        &host
            .text("/sys/devices/system/cpu/online")
            .unwrap_or_default(),
    );
    let found = format!("this process cannot run on core {missing}");
    let why = format!(
        "it may run on {} only, and the host has {}",
        commas(&allowed),
        commas(&online)
    );
    out.push(
        Finding::fail(NAME, found, why)
            .mend("# name other cores in `workers.cores`, or widen AllowedCPUs= (CPUAffinity=) of the service"),
    );
}

pub(super) fn isolation(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "isolation";
    if needs.cores.is_empty() {
        return;
    }
    let cores: BTreeSet<u16> = needs.cores.iter().copied().collect();
    if cores.len() < needs.cores.len() && needs.poll {
        let found = format!("{} workers on cores {}", needs.cores.len(), commas(&cores));
        let why = "workers that poll (`idle: poll`) wait for one another for whole time slices";
        let finding = Finding::warn(NAME, found, why);
        return out.push(
            finding.mend("# a core for each in `workers.cores`, or `workers: {idle: yield}`"),
        );
    }
    if !needs.poll {
        return out.push(Finding::ok(
            NAME,
            "cores are shared by configuration: `idle: yield`",
        ));
    }
    let isolated = isolated(host);
    let shared: BTreeSet<u16> = cores.difference(&isolated).copied().collect();
    let ticking = cpu_list(
        &host
            .text("/sys/devices/system/cpu/nohz_full")
            .unwrap_or_default(),
    );
    let ticking: BTreeSet<u16> = cores.difference(&ticking).copied().collect();
    if shared.is_empty() && ticking.is_empty() {
        return out.push(Finding::ok(
            NAME,
            format!("cores {} are isolated", commas(&cores)),
        ));
    }
    let all = commas(&cores);
    let parameters = format!("isolcpus=managed_irq,domain,{all} nohz_full={all} rcu_nocbs={all}");
    let grub = format!(
        "sed -i 's/^GRUB_CMDLINE_LINUX=\"/&{parameters} /' /etc/default/grub && update-grub && reboot"
    );
    let found = match shared.is_empty() {
        true => format!("the kernel's tick runs on core {}", commas(&ticking)),
        false => format!("core {} is not isolated", commas(&shared)),
    };
    let why =
        "other processes and the kernel's tick interrupt the worker: its queues overflow meanwhile";
    out.push(
        Finding::warn(NAME, found, why)
            .mend(grub)
            .mend("# if the host has other work to do on them: `workers: {idle: yield}`"),
    );
}

pub(super) fn siblings(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "hyperthreads";
    let cores: BTreeSet<u16> = needs.cores.iter().copied().collect();
    let isolated = isolated(host);
    let mut paired = Vec::new();
    let mut open = Vec::new();
    for core in &cores {
        let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        for other in cpu_list(&host.text(path).unwrap_or_default()) {
            if cores.contains(&other) && other > *core {
                paired.push(format!("{core} and {other}"));
            } else if !cores.contains(&other) && !isolated.contains(&other) {
                open.push((*core, other));
            }
        }
    }
    if !paired.is_empty() {
        let found = format!("cores {} are threads of one", paired.join(", "));
        let why = "two workers on them get little more than one";
        let finding = Finding::warn(NAME, found, why);
        return out.push(finding.mend("# one worker for each physical core in `workers.cores`"));
    }
    if !open.is_empty() && needs.poll {
        let pairs: Vec<String> = open
            .iter()
            .map(|(c, o)| format!("{o} beside {c}"))
            .collect();
        let found = format!("the host may use {}", pairs.join(", "));
        let why = "whatever runs on a worker's other thread takes up to half of its speed";
        let mut finding = Finding::warn(NAME, found, why);
        for (_, other) in open {
            finding = finding.mend(format!(
                "echo 0 > /sys/devices/system/cpu/cpu{other}/online"
            ));
        }
        return out.push(finding);
    }
    if !cores.is_empty() {
        out.push(Finding::ok(NAME, "no worker shares its core"));
    }
}

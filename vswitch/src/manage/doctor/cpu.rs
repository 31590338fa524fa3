//! The processor and what keeps its time.

use std::collections::BTreeSet;

use super::finding::{Finding, Level};
use super::host::Host;
use super::needs::Needs;

/// The oldest DPDK whose interfaces are used.
const DPDK: (u32, u32) = (22, 11);

/// `version` is what the library says of itself, such as `DPDK 22.11.7`.
pub(super) fn dpdk(version: &str, out: &mut Vec<Finding>) {
    const NAME: &str = "dpdk";
    let number = version.split_whitespace().last().unwrap_or_default();
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    if let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next())
        && (major, minor) >= DPDK
    {
        return out.push(Finding::ok(NAME, version));
    }
    let why = format!("{}.{} or newer is needed", DPDK.0, DPDK.1);
    out.push(Finding::fail(NAME, version, why).mend("apt-get install libdpdk-dev dpdk"));
}

/// Flags of the first CPU.
fn flags(host: &Host) -> BTreeSet<String> {
    let cpuinfo = host.text("/proc/cpuinfo").unwrap_or_default();
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(name, _)| matches!(name.trim(), "flags" | "Features"));
    let flags = found.map(|(_, flags)| flags).unwrap_or_default();
    flags.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn features(host: &Host, out: &mut Vec<Finding>) {
    const NAME: &str = "cpu";
    let flags = flags(host);
    let has = |names: &[&str]| names.iter().all(|name| flags.contains(*name));
    if flags.contains("fpu") && !has(&["sse4_2"]) {
        let finding = Finding::fail(NAME, "no SSE4.2", "DPDK does not run without it");
        return out.push(finding.mend("# a newer CPU; of a virtual machine: -cpu host"));
    }
    let vector = [
        ("AES-NI", has(&["aes", "pclmulqdq"])),
        ("AVX2", has(&["avx2"])),
        ("AVX-512", has(&["avx512f", "avx512bw", "avx512vl"])),
        ("VAES", has(&["vaes", "vpclmulqdq"])),
        ("AES (ARMv8)", has(&["aes", "pmull"])),
    ];
    let there: Vec<&str> = vector
        .iter()
        .filter(|(_, has)| *has)
        .map(|(name, _)| *name)
        .collect();
    let found = match there.as_slice() {
        [] => "no AES instructions".to_owned(),
        there => there.join(", "),
    };
    if there.iter().any(|name| name.contains("AES")) {
        return out.push(Finding::ok(NAME, found));
    }
    let why = "AES-GCM in software costs more than ten times as much";
    out.push(
        Finding::warn(NAME, found, why).mend("# a newer CPU; of a virtual machine: -cpu host"),
    );
}

pub(super) fn clock(host: &Host, out: &mut Vec<Finding>) {
    const NAME: &str = "clock";
    const AT: &str = "/sys/devices/system/clocksource/clocksource0";
    let flags = flags(host);
    let Some(source) = host.text(format!("{AT}/current_clocksource")) else {
        return;
    };
    // Another architecture has another counter.
    if !flags.contains("tsc") {
        return out.push(Finding::ok(NAME, source));
    }
    let unsteady = ["constant_tsc", "nonstop_tsc"];
    let missing: Vec<&str> = unsteady
        .into_iter()
        .filter(|f| !flags.contains(*f))
        .collect();
    if !missing.is_empty() {
        let found = format!("the time-stamp counter lacks {}", missing.join(" and "));
        let why = "ages, rates and latencies are measured by it";
        let finding = Finding::warn(NAME, found, why);
        return out.push(finding.mend("# of a virtual machine: -cpu host,+invtsc"));
    }
    if source == "tsc" {
        return out.push(Finding::ok(NAME, "tsc, constant and never stopping"));
    }
    let available = host
        .text(format!("{AT}/available_clocksource"))
        .unwrap_or_default();
    let why = "the kernel does not trust the time-stamp counter, or reads of the time are slow system calls";
    let finding = Finding::warn(NAME, source, why);
    out.push(if available.split_whitespace().any(|name| name == "tsc") {
        finding.mend(format!("echo tsc > {AT}/current_clocksource"))
    } else {
        finding
            .mend("# kernel parameter tsc=reliable, if the machine's counters are known to agree")
    });
}

/// The frequency of the workers' cores.
pub(super) fn governor(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "governor";
    let of = |core: &u16| {
        let path = format!("/sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor");
        Some((*core, host.text(path)?))
    };
    let cores: BTreeSet<u16> = needs.cores.iter().copied().collect();
    let governors: Vec<(u16, String)> = cores.iter().filter_map(of).collect();
    if governors.is_empty() {
        return out.push(Finding::ok(
            NAME,
            "the kernel does not control these cores' frequency",
        ));
    }
    let slow: Vec<&(u16, String)> = governors
        .iter()
        .filter(|(_, g)| g != "performance")
        .collect();
    let Some((_, name)) = slow.first() else {
        return out.push(Finding::ok(NAME, "performance"));
    };
    let list = super::host::commas(slow.iter().map(|(core, _)| core));
    let found = format!("{name} on cores {list}");
    let why = "a worker that gives way looks idle, and its clock is lowered";
    let level = Level::Warn;
    out.push(
        Finding::bad(level, NAME, found, why)
            .mend(format!("cpupower -c {list} frequency-set -g performance")),
    );
}

//! What DPDK's error lines mean: for those that operators meet, the cause and the command.
//! The lines are DPDK 22.11's; an error number alone names neither.

/// Part of a line, and what to tell.
const KNOWN: &[(&str, &str)] = &[
    (
        "Cannot get hugepage information",
        "there are no hugepages to use, or no hugetlbfs is mounted: \
         echo 1024 > /proc/sys/vm/nr_hugepages; mount -t hugetlbfs nodev /dev/hugepages",
    ),
    (
        "Not enough memory available",
        "the NUMA nodes of the cores have too few hugepages: look at \
         /sys/devices/system/node/node*/hugepages/*/free_hugepages and raise nr_hugepages there, \
         or lower eal.memory-mb",
    ),
    (
        "Cannot create lock on",
        "another DPDK process runs under this file prefix: give eal.file-prefix another value, \
         or end that process (fuser -v /var/run/dpdk/*/config)",
    ),
    (
        "Is another primary process running",
        "another DPDK process runs under this file prefix: give eal.file-prefix another value, \
         or end that process (fuser -v /var/run/dpdk/*/config)",
    ),
    (
        "group is not viable",
        "other devices of the card's IOMMU group belong to the kernel: bind all of them to \
         vfio-pci (dpdk-devbind.py --status; ls /sys/bus/pci/devices/*/iommu_group/devices)",
    ),
    (
        "DMA remapping failed",
        "memory could not be locked for the card's DMA: ulimit -l unlimited, \
         or LimitMEMLOCK=infinity in the unit",
    ),
    (
        "Cannot set up DMA remapping",
        "memory could not be locked for the card's DMA: ulimit -l unlimited, \
         or LimitMEMLOCK=infinity in the unit",
    ),
    (
        "Cannot use IOVA as 'PA'",
        "without an IOMMU the process must see physical addresses: run it as root with \
         CAP_SYS_ADMIN, or switch the IOMMU on (intel_iommu=on, amd_iommu=on)",
    ),
    (
        "VFIO support could not be initialized",
        "vfio is not there or not allowed: modprobe vfio-pci; ls -l /dev/vfio",
    ),
    (
        "Failed to open VFIO group",
        "the card's group cannot be opened: bind the card to vfio-pci \
         (dpdk-devbind.py --bind=vfio-pci ADDRESS) and see that no other process has it \
         (fuser -v /dev/vfio/*)",
    ),
    (
        "Unable to set TUNSETIFF",
        "the name of the tap is taken, or CAP_NET_ADMIN is missing: ip -d link show",
    ),
    (
        "Unable to create TAP interface",
        "modprobe tun, and run as root or with CAP_NET_ADMIN",
    ),
    (
        "could not open AF_PACKET socket",
        "a packet socket needs CAP_NET_RAW: run as root or by the systemd unit",
    ),
    (
        "ioctl failed (SIOCGIFINDEX)",
        "there is no interface of that name in this network namespace: ip -br link",
    ),
    (
        "Failed to create xsk socket",
        "af_xdp needs CAP_SYS_ADMIN and SystemCallFilter=bpf (a drop-in of the unit), a queue of \
         the interface that nobody else uses, and ulimit -l unlimited",
    ),
    (
        "Error creating '/var/run/dpdk",
        "EAL's runtime directory cannot be made: run as root, or set RUNTIME_DIRECTORY",
    ),
    (
        "mmap() failed",
        "the host has less memory than eal.memory-mb asks for: lower it, or free some (free -m)",
    ),
];

/// What the first line that is known means.
pub(in crate::dpdk) fn explain(lines: &[String]) -> Option<&'static str> {
    let known = |line: &String| KNOWN.iter().find(|(part, _)| line.contains(part));
    lines.iter().find_map(known).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Option<&'static str> {
        explain(
            &lines
                .iter()
                .map(|line| (*line).to_owned())
                .collect::<Vec<_>>(),
        )
    }

    #[test]
    fn every_explanation_has_something_to_do() {
        for (line, advice) in KNOWN {
            let log = format!("EAL: before, {line} and behind");
            let first = told(&["EAL: something else", &log]);
            assert!(first.is_some(), "{line}");
            let acts = [
                "echo", "mod", "ip ", "run ", "bind", "fuser", "lower", "ulimit", "drop-in",
                "look at",
            ];
            assert!(acts.iter().any(|act| advice.contains(act)), "{advice}");
        }
        assert_eq!(told(&["EAL: Detected CPU lcores: 2"]), None);
    }
}

//! Which memory DPDK gets: hugepages if enough of them are free, else ordinary pages.

use std::fmt;
use std::fs;
use std::path::Path;

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Hugepages if enough are free and hugetlbfs is mounted, else [`Memory::NoHuge`].
    #[default]
    Auto,
    /// Hugepages, or no start.
    Hugepages,
    /// Ordinary pages: slower, and no PCI device can use them.
    NoHuge,
}

/// One size of hugepages on this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageSize {
    /// Bytes of one page in KiB.
    pub kib: u64,
    /// Pages that nobody uses.
    pub free: u64,
    /// A hugetlbfs of this page size is mounted.
    pub mounted: bool,
}

/// What was chosen, and why, in words for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Hugepages are used.
    pub hugepages: bool,
    /// The reason.
    pub reason: String,
}

/// Free hugepages of every size, from sysfs and the mount table.
pub fn survey() -> Vec<PageSize> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mounted = mounted_sizes(&mounts, default_size(&meminfo));
    let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else {
        return Vec::new();
    };
    let mut found: Vec<PageSize> = sizes
        .flatten()
        .filter_map(|entry| page_size(&entry.path(), &mounted))
        .collect();
    found.sort_by_key(|p| p.kib);
    found
}

fn page_size(dir: &Path, mounted: &[u64]) -> Option<PageSize> {
    let name = dir.file_name()?.to_str()?;
    let kib = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let free = fs::read_to_string(dir.join("free_hugepages"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    Some(PageSize {
        kib,
        free,
        mounted: mounted.contains(&kib),
    })
}

/// The kernel's default hugepage size in KiB, from the text of `/proc/meminfo`.
pub(crate) fn default_size(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|l| l.strip_prefix("Hugepagesize:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Page sizes in KiB of the hugetlbfs mounts in the text of `/proc/mounts`.
fn mounted_sizes(mounts: &str, default: Option<u64>) -> Vec<u64> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (kind, options) = (fields.nth(2)?, fields.next()?);
            if kind != "hugetlbfs" {
                return None;
            }
            match options.split(',').find_map(|o| o.strip_prefix("pagesize=")) {
                Some(size) => size_in_kib(size),
                None => default,
            }
        })
        .collect()
}

pub(crate) fn size_in_kib(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.trim_end_matches(|c: char| c.is_alphabetic()).len());
    let number: u64 = digits.parse().ok()?;
    match unit {
        "K" | "k" => Some(number),
        "M" | "m" => number.checked_mul(1024),
        "G" | "g" => number.checked_mul(1024 * 1024),
        "" => Some(number / 1024),
        _ => None,
    }
}

/// Decides by what is free. `Err` says what is missing for [`Memory::Hugepages`].
pub fn choose(wanted: Memory, memory_mb: u32, sizes: &[PageSize]) -> Result<Choice, String> {
    let usable: u64 = sizes
        .iter()
        .filter(|p| p.mounted)
        .map(|p| p.free.saturating_mul(p.kib) / 1024)
        .sum();
    let enough = usable >= u64::from(memory_mb);
    match wanted {
        Memory::NoHuge => Ok(Choice {
            hugepages: false,
            reason: "the configuration asks for no hugepages".into(),
        }),
        _ if enough => Ok(Choice {
            hugepages: true,
            reason: format!("{usable} MB of hugepages are free, {memory_mb} MB are needed"),
        }),
        Memory::Auto => Ok(Choice {
            hugepages: false,
            reason: shortage(memory_mb, usable, sizes),
        }),
        Memory::Hugepages => Err(shortage(memory_mb, usable, sizes)),
    }
}

fn shortage(memory_mb: u32, usable: u64, sizes: &[PageSize]) -> String {
    if sizes.iter().any(|p| p.free > 0 && !p.mounted) && usable == 0 {
        let sizes = Sizes(sizes);
        return format!("hugepages are free ({sizes}) but no hugetlbfs of their size is mounted");
    }
    format!(
        "{memory_mb} MB of hugepages are needed and {usable} MB are free ({})",
        Sizes(sizes)
    )
}

struct Sizes<'a>(&'a [PageSize]);

impl fmt::Display for Sizes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("this kernel offers none");
        }
        for (i, p) in self.0.iter().enumerate() {
            let comma = if i > 0 { ", " } else { "" };
            write!(f, "{comma}{} free of {} kB", p.free, p.kib)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "proc /proc proc rw 0 0\n\
        nodev /dev/hugepages hugetlbfs rw,relatime,pagesize=2M 0 0\n\
        none /mnt/huge hugetlbfs rw,relatime,pagesize=1024M 0 0\n\
        none /mnt/plain hugetlbfs rw 0 0\n";

    #[test]
    fn mounts_give_their_page_sizes() {
        assert_eq!(mounted_sizes(MOUNTS, Some(2048)), [2048, 1024 * 1024, 2048]);
        assert_eq!(
            mounted_sizes("tmpfs /tmp tmpfs rw,pagesize=2M 0 0", Some(2048)),
            [0_u64; 0]
        );
        assert_eq!(
            default_size("MemTotal: 1 kB\nHugepagesize:       2048 kB\n"),
            Some(2048)
        );
    }

    #[test]
    fn sizes_with_units() {
        assert_eq!(size_in_kib("2M"), Some(2048));
        assert_eq!(size_in_kib("1G"), Some(1024 * 1024));
        assert_eq!(size_in_kib("64K"), Some(64));
        assert_eq!(size_in_kib("2097152"), Some(2048));
        assert_eq!(size_in_kib("M"), None);
        assert_eq!(size_in_kib("2X"), None);
    }

    #[test]
    fn auto_takes_hugepages_only_if_enough_are_free_and_mounted() {
        let page = |free, mounted| {
            [PageSize {
                kib: 2048,
                free,
                mounted,
            }]
        };
        let auto = |sizes: &[PageSize]| choose(Memory::Auto, 512, sizes).map(|c| c.hugepages);
        assert_eq!(auto(&page(256, true)), Ok(true));
        assert_eq!(auto(&page(255, true)), Ok(false));
        assert_eq!(auto(&page(1024, false)), Ok(false));
        assert_eq!(auto(&[]), Ok(false));
    }

    #[test]
    fn asked_for_hugepages_are_given_or_refused_with_the_reason() {
        let free = [PageSize {
            kib: 2048,
            free: 512,
            mounted: false,
        }];
        let why = choose(Memory::Hugepages, 512, &free).unwrap_err();
        assert!(why.contains("hugetlbfs"), "{why}");
        let few = [PageSize {
            kib: 2048,
            free: 10,
            mounted: true,
        }];
        let why = choose(Memory::Hugepages, 512, &few).unwrap_err();
        assert!(
            why.contains("512 MB") && why.contains("20 MB are free"),
            "{why}"
        );
        assert_eq!(
            choose(Memory::NoHuge, 1, &few).map(|c| c.hugepages),
            Ok(false)
        );
    }
}

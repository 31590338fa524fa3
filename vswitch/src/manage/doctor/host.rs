//! The host as the checks see it: files of `/proc`, `/sys` and the rest below a root
//! directory, so that a test can give them a tree of its own. Nothing here writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A host's file system.
#[derive(Debug, Clone)]
pub struct Host {
    root: PathBuf,
}

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where.
    pub at: String,
    /// Its type, such as `tmpfs`.
    pub kind: String,
    /// Its options, such as `rw`.
    pub options: Vec<String>,
}

/// A capability of capabilities(7), by its bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capability(pub &'static str, pub u8);

impl Host {
    /// This host.
    pub fn here() -> Self {
        Host::at("/")
    }

    /// A tree of files that looks like a host.
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Host { root: root.into() }
    }

    /// Where a file of the host is found; `path` is absolute.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text without blanks at its ends; what cannot be read is `None`.
    pub fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = fs::read(self.path(path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    /// The number that is a file's text.
    pub fn number(&self, path: impl AsRef<Path>) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Names in a directory, sorted; none if it cannot be read.
    pub fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path))
            .into_iter()
            .flatten()
            .flatten();
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names
    }

    /// Whether there is something of that name, also a link that leads nowhere.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// The last part of a link's target, as sysfs names drivers and groups.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<String> {
        let target = fs::read_link(self.path(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// A field of `/proc/self/status`, such as `CapEff`.
    fn status(&self, field: &str) -> Option<String> {
        let status = self.text("/proc/self/status")?;
        let lines = status.lines().filter_map(|line| line.split_once(':'));
        let mut values = lines.filter(|(name, _)| *name == field);
        values.next().map(|(_, value)| value.trim().to_owned())
    }

    /// The effective user of this process.
    pub fn uid(&self) -> Option<u32> {
        self.status("Uid")?.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether this process has a capability now.
    pub fn has(&self, capability: Capability) -> bool {
        let set = self.status("CapEff");
        let set = set.and_then(|set| u64::from_str_radix(&set, 16).ok());
        set.is_some_and(|set| set.checked_shr(capability.1.into()).unwrap_or(0) & 1 == 1)
    }

    /// Cores on which this process may run.
    pub fn cores(&self) -> BTreeSet<u16> {
        let list = self.status("Cpus_allowed_list");
        list.map_or_else(BTreeSet::new, |list| cpu_list(&list))
    }

    /// A soft limit of `/proc/self/limits`, such as `Max locked memory`; `u64::MAX` is none.
    pub fn limit(&self, name: &str) -> Option<u64> {
        let limits = self.text("/proc/self/limits")?;
        let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
        match line.split_whitespace().next()? {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        }
    }

    /// What is mounted, in the order of mounting.
    pub fn mounts(&self) -> Vec<Mount> {
        let text = self.text("/proc/self/mounts").unwrap_or_default();
        let mount = |line: &str| {
            let mut fields = line.split(' ').skip(1);
            Some(Mount {
                // Blanks are written so (proc(5)).
                at: fields.next()?.replace("\\040", " "),
                kind: fields.next()?.to_owned(),
                options: fields.next()?.split(',').map(str::to_owned).collect(),
            })
        };
        text.lines().filter_map(mount).collect()
    }

    /// The mount that a path is on.
    pub fn mount_of(&self, path: &Path) -> Option<Mount> {
        let mounts = self.mounts().into_iter();
        let over = mounts.filter(|mount| path.starts_with(&mount.at));
        // Of two at one place the later hides the earlier.
        over.max_by_key(|mount| Path::new(&mount.at).components().count())
    }

    /// NUMA nodes.
    pub fn nodes(&self) -> Vec<u32> {
        let names = self.names("/sys/devices/system/node");
        let mut nodes: Vec<u32> = names
            .iter()
            .filter_map(|name| name.strip_prefix("node")?.parse().ok())
            .collect();
        nodes.sort_unstable();
        nodes
    }

    /// The node of a core.
    pub fn node_of_core(&self, core: u16) -> Option<u32> {
        let names = self.names(format!("/sys/devices/system/cpu/cpu{core}"));
        let mut nodes = names
            .iter()
            .filter_map(|name| name.strip_prefix("node")?.parse().ok());
        nodes.next()
    }
}

/// `0-3,8` as the kernel writes sets of CPUs; what is not understood is left out.
pub fn cpu_list(text: &str) -> BTreeSet<u16> {
    let mut cores = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse()) {
            cores.extend(first..=last);
        }
    }
    cores
}

/// Numbers with commas, as they are written in a kernel's command line.
pub fn commas<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    items.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_cpus() {
        assert_eq!(cpu_list("0-2,5\n"), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(cpu_list(""), BTreeSet::new());
        assert_eq!(cpu_list("x,3-"), BTreeSet::new());
        assert_eq!(commas([1, 3]), "1,3");
    }

    #[test]
    fn this_host_is_read() {
        let host = Host::here();
        assert!(!host.cores().is_empty());
        assert_eq!(host.uid(), Some(rustix::process::geteuid().as_raw()));
        assert!(host.limit("Max open files").is_some());
        assert!(
            host.mount_of(Path::new("/proc/self"))
                .is_some_and(|m| m.kind == "proc")
        );
    }
}

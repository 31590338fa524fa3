//! Sockets and their directories, and what a killed instance left behind.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::host::Host;
use super::needs::Needs;

/// Where EAL keeps the files of each prefix.
const EAL: &str = "/var/run/dpdk";

/// A process that holds something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Holder {
    pid: String,
    name: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

fn named(host: &Host, pid: &str) -> Holder {
    let name = host.text(format!("/proc/{pid}/comm"));
    Holder {
        pid: pid.to_owned(),
        name: name.unwrap_or_else(|| "another program".to_owned()),
    }
}

/// Inode of the socket that listens at a path. Nobody is disturbed, as a connection would.
fn listener(host: &Host, path: &Path) -> Option<String> {
    /// `__SO_ACCEPTCON` in `/proc/net/unix`.
    const LISTENS: u64 = 0x1_0000;
    let holds = |line: &str| -> Option<String> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let flags = u64::from_str_radix(fields.get(3)?, 16).ok()?;
        let at = fields.get(7..)?.join(" ");
        let here = flags & LISTENS != 0 && Path::new(&at) == path;
        here.then(|| fields.get(6).map(|inode| (*inode).to_owned()))?
    };
    // Each network namespace lists its own sockets only, wherever in the file system they are.
    let mut seen = HashSet::new();
    let pids = host.names("/proc").into_iter().filter(|n| is_pid(n));
    std::iter::once("self".to_owned())
        .chain(pids)
        .filter(|pid| seen.insert(host.link(format!("/proc/{pid}/ns/net"))))
        .find_map(|pid| {
            let sockets = host.text(format!("/proc/{pid}/net/unix"))?;
            sockets.lines().skip(1).find_map(holds)
        })
}

fn is_pid(name: &str) -> bool {
    name.bytes().all(|b| b.is_ascii_digit())
}

fn socket_holder(host: &Host, inode: &str) -> Option<Holder> {
    let wanted = format!("socket:[{inode}]");
    let mut pids = host.names("/proc").into_iter().filter(|n| is_pid(n));
    let pid = pids.find(|pid| {
        let at = format!("/proc/{pid}/fd");
        host.names(&at)
            .iter()
            .any(|fd| host.link(format!("{at}/{fd}")).as_deref() == Some(&wanted))
    })?;
    Some(named(host, &pid))
}

/// Who has a lock on a file, by `/proc/locks`.
fn lock_holder(host: &Host, path: &str) -> Option<Holder> {
    let meta = fs::metadata(host.path(path)).ok()?;
    let (major, minor) = (rustix::fs::major(meta.dev()), rustix::fs::minor(meta.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", meta.ino());
    let locks = host.text("/proc/locks")?;
    let line = locks
        .lines()
        .find(|line| line.split_whitespace().any(|field| field == wanted))?;
    let fields: Vec<&str> = line.split_whitespace().collect();
    let at = fields.iter().position(|field| *field == wanted)?;
    Some(named(host, fields.get(at.checked_sub(1)?)?))
}

fn is_socket(host: &Host, path: &Path) -> Option<bool> {
    let meta = fs::symlink_metadata(host.path(path)).ok()?;
    Some(meta.file_type().is_socket())
}

/// Sockets that somebody else uses.
pub(super) fn in_use(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "sockets";
    let mut free = 0;
    for socket in needs.sockets.iter().filter(|socket| socket.ours) {
        let path = socket.path.display();
        if let Some(inode) = listener(host, &socket.path) {
            let holder = socket_holder(host, &inode);
            let by = holder
                .as_ref()
                .map_or("another process".to_owned(), Holder::to_string);
            let found = format!("{path}, the socket of {}, is in use by {by}", socket.of);
            let why = "two switches must not share a socket";
            let finding = Finding::fail(NAME, found, why);
            out.push(match holder {
                Some(Holder { pid, name }) if name == "vswitchd" => finding
                    .mend(format!("systemctl stop vswitchd   # or: kill {pid}"))
                    .mend(
                        "# or give this switch other paths: `api.socket`, `ports[].vhost.socket`",
                    ),
                Some(Holder { pid, .. }) => finding.mend(format!(
                    "ps -fp {pid}   # and end it, or choose another path"
                )),
                None => finding.mend(format!("ss -xlp src {path}")),
            });
            continue;
        }
        match is_socket(host, &socket.path) {
            Some(false) => {
                let found = format!(
                    "{path}, the socket of {}, is a file or a directory",
                    socket.of
                );
                let finding = Finding::fail(NAME, found, "what is no socket is not replaced");
                out.push(finding.mend(format!(
                    "ls -ld {path}   # and remove it or choose another path"
                )));
            }
            _ => free += 1,
        }
    }
    if free > 0 {
        out.push(Finding::ok(NAME, format!("{free} can be made")));
    }
}

/// Directories of sockets: there, and open to those who connect.
pub(super) fn directories(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "socket-dir";
    let mut seen: Vec<PathBuf> = Vec::new();
    for socket in &needs.sockets {
        let Some(directory) = socket
            .path
            .parent()
            .filter(|d| !seen.iter().any(|s| s == d))
        else {
            continue;
        };
        seen.push(directory.to_owned());
        let shown = directory.display();
        let api = socket.of == "the API";
        match fs::metadata(host.path(directory)) {
            Err(_) if api => {
                out.push(Finding::ok(NAME, format!("{shown} is made at the start")));
            }
            Err(_) => {
                let found = format!("{shown}, for the socket of {}, is missing", socket.of);
                let finding = Finding::fail(NAME, found, "neither the switch nor QEMU makes it");
                out.push(finding.mend(format!("install -d -m 755 {shown}")));
            }
            Ok(meta) if !meta.is_dir() => {
                let finding = Finding::fail(
                    NAME,
                    format!("{shown} is no directory"),
                    "a socket is to be made in it",
                );
                out.push(finding.mend(format!("ls -ld {shown}")));
            }
            Ok(meta) if meta.mode() & 0o022 != 0 && meta.mode() & 0o1000 == 0 => {
                let found = format!("{shown} has mode {:o}", meta.mode() & 0o7777);
                let why = "anybody can put a socket in place of the switch's or QEMU's";
                out.push(Finding::warn(NAME, found, why).mend(format!("chmod 755 {shown}")));
            }
            Ok(meta) if meta.mode() & 0o001 == 0 => {
                let found = format!("{shown} has mode {:o}", meta.mode() & 0o7777);
                let why = "QEMU runs as another user as a rule, and cannot enter it";
                out.push(Finding::warn(NAME, found, why).mend(format!("chmod o+x {shown}")));
            }
            Ok(_) => out.push(Finding::ok(NAME, format!("{shown} is there"))),
        }
    }
}

/// EAL's runtime directory of our prefix: another process's?
pub(super) fn prefix(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "file-prefix";
    let Some(prefix) = &needs.file_prefix else {
        return;
    };
    let holder = lock_holder(host, &format!("{EAL}/{prefix}/config"))
        .or_else(|| lock_holder(host, &super::start::prefix_lock(prefix)));
    let Some(holder) = holder else {
        return out.push(Finding::ok(NAME, format!("{prefix} is free")));
    };
    let found = format!("EAL's file prefix {prefix} is in use by {holder}");
    let why = "two DPDK processes under one prefix take each other's files";
    out.push(
        Finding::fail(NAME, found, why)
            .mend(format!(
                "# eal: {{file-prefix: {prefix}-2}}, or end the other:"
            ))
            .mend(format!("kill {}", holder.pid)),
    );
}

/// Whether the process of an EAL prefix still runs, by its locks or by the number that is the
/// end of a default prefix.
fn runs(host: &Host, prefix: &str) -> bool {
    let lock = super::start::prefix_lock(prefix);
    let pid = prefix.rsplit('-').next().unwrap_or_default();
    let numbered = !pid.is_empty() && pid.bytes().all(|b| b.is_ascii_digit());
    lock_holder(host, &lock).is_some()
        || lock_holder(host, &format!("{EAL}/{prefix}/config")).is_some()
        || (numbered && host.exists(format!("/proc/{pid}")))
}

/// What nobody needs any more.
pub(super) fn leftovers(host: &Host, needs: &Needs, out: &mut Vec<Finding>) {
    const NAME: &str = "leftovers";
    let mut none = true;
    let names = host.names(EAL);
    let gone: Vec<String> = names
        .iter()
        .filter(|name| match &needs.file_prefix {
            Some(prefix) => prefix == *name,
            None => name.starts_with("vswitch-"),
        })
        .filter(|name| !runs(host, name))
        .map(|name| format!("{EAL}/{name}"))
        .collect();
    if let Some(first) = gone.first() {
        none = false;
        let found = match gone.len() {
            1 => first.clone(),
            n => format!("{first} and {} more", n - 1),
        };
        let why = "killed instances left directories behind; harmless, but they stay";
        let finding = Finding::warn(NAME, found, why);
        out.push(finding.mend(format!("rm -r {}", gone.join(" "))));
    }
    for mount in host.mounts().iter().filter(|m| m.kind == "hugetlbfs") {
        let names = host.names(&mount.at);
        let files: Vec<&String> = names.iter().filter(|name| name.contains("map_")).collect();
        if !files.is_empty() {
            none = false;
            let found = format!(
                "{} files of DPDK in {} hold hugepages",
                files.len(),
                mount.at
            );
            let why = "if no DPDK process runs, their pages are lost to the next; the switch itself leaves none";
            out.push(
                Finding::warn(NAME, found, why)
                    .mend(format!("fuser -v {0}/*map_* || rm {0}/*map_*", mount.at)),
            );
        }
    }
    let stale = needs
        .sockets
        .iter()
        .filter(|s| s.ours && is_socket(host, &s.path) == Some(true));
    for socket in stale.filter(|s| listener(host, &s.path).is_none()) {
        none = false;
        let found = format!(
            "{}: nobody listens; the start replaces it",
            socket.path.display()
        );
        out.push(Finding::ok(NAME, found));
    }
    if none {
        out.push(Finding::ok(NAME, "none of a killed instance"));
    }
}

//! Before the switch starts: what would end in an error of DPDK's that says nothing is told
//! in words here, with the command that mends it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Finding, Host, Level, Needs, cores, kernel, memory, nics, privileges, sockets};

/// What keeps the switch from starting here, and what it should be warned of: findings that
/// are not [`Level::Ok`].
pub fn check(host: &Host, needs: &Needs) -> Vec<Finding> {
    let mut out = Vec::new();
    privileges::check(host, needs, &mut out);
    memory::check(host, needs, &mut out);
    memory::numa(host, needs, &mut out);
    privileges::memlock(host, needs, &mut out);
    cores::isolation(host, needs, &mut out);
    nics::vfio(host, needs, &mut out);
    nics::check(host, needs, &mut out);
    nics::interfaces(host, needs, &mut out);
    kernel::taps(host, needs, &mut out);
    kernel::xdp(host, needs, &mut out);
    sockets::in_use(host, needs, &mut out);
    sockets::prefix(host, needs, &mut out);
    out.retain(|finding| finding.level > Level::Ok);
    out
}

/// The file whose lock says that a switch runs under an EAL prefix. (EAL itself locks
/// nothing where it shares nothing, which is how the switch starts it.)
pub fn prefix_lock(prefix: &str) -> String {
    format!("/run/lock/vswitch-eal-{prefix}.lock")
}

/// Takes the lock of a prefix, for as long as the file is open; `None` where there is no
/// place for locks, so that nothing guards the prefix.
pub fn claim_prefix(prefix: &str) -> Result<Option<File>, Finding> {
    let path = prefix_lock(prefix);
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = match options.open(&path) {
        Ok(file) => file,
        Err(error) => {
            tracing::debug!(path, %error, "no lock for the file prefix");
            return Ok(None);
        }
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => {
            let found = format!("EAL's file prefix {prefix} is in use by another switch");
            let why = "two DPDK processes under one prefix take each other's files";
            let finding = Finding::fail("file-prefix", found, why);
            Err(finding
                .mend(format!(
                    "# eal: {{file-prefix: {prefix}-2}}, or end the other:"
                ))
                .mend(format!("fuser -v {path}")))
        }
        _ => Ok(Some(file)),
    }
}

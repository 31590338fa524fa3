//! What the server does to itself before it reads its key: nobody of the same user looks into its memory,
//! nothing of it gets into a core dump, what it writes is its own, and no program that it might ever start
//! gains rights.

use std::io;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit, umask,
};
use rustix::thread::set_no_new_privs;

/// Hardens this process. To be called before there is a second thread: what is not the process's but a
/// thread's (no_new_privs) is inherited by those that come.
///
/// # Errors
/// The kernel refused; which of them, and why.
pub fn harden() -> Result<(), (&'static str, io::Error)> {
    let refused = |what| move |error: rustix::io::Errno| (what, error.into());
    // prctl(2): no core dump, no ptrace but by root, and /proc/PID belongs to root.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(refused("PR_SET_DUMPABLE"))?;
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none).map_err(refused("RLIMIT_CORE"))?;
    set_no_new_privs(true).map_err(refused("PR_SET_NO_NEW_PRIVS"))?;
    umask(Mode::from_raw_mode(0o077));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hardened_process_is_not_dumpable() {
        harden().unwrap();
        let behavior = rustix::process::dumpable_behavior().unwrap();
        assert_eq!(behavior, DumpableBehavior::NotDumpable);
    }
}

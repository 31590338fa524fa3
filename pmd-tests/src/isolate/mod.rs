//! EAL starts once per process, so every test gets a process of its own: the test binary
//! runs itself again for this one test, in a network namespace of its own where asked.

mod process;

pub use process::{again, isolated_through, skipped, this_test};

/// Runs `body`, the whole of a test, in a process of its own.
pub fn isolated(body: impl FnOnce()) {
    isolated_through(&[], body);
}

/// As [`isolated`], in new network, mount and process namespaces with an empty /run: what a
/// test starts, mounts or names there is gone when it ends, however it ends. Needs root.
pub fn isolated_in_lab(body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        return skipped("namespaces need root");
    }
    let unshare = [
        "unshare",
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
    ];
    isolated_through(&unshare, || {
        crate::lab::sh(
            "mount -t tmpfs -o size=64m none /run && mkdir /run/netns /run/lab /run/lock",
        );
        crate::lab::sh("ip link set lo up");
        body();
    });
}

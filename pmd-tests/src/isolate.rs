//! EAL starts once per process, so every test gets a process of its own: the test binary
//! runs itself again for this one test, in a network namespace of its own where asked.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;

const CHILD: &str = "VSWITCH_TEST_CHILD";

/// Runs `body` in a process of its own. `name` is the test function's.
pub fn isolated(name: &str, body: impl FnOnce()) {
    run(name, &[], body);
}

/// As [`isolated`], in new network, mount and process namespaces with an empty /run: what a
/// test starts, mounts or names there is gone when it ends, however it ends. Needs root.
pub fn isolated_in_lab(name: &str, body: impl FnOnce()) {
    if !rustix::process::geteuid().is_root() {
        return skipped(name, "namespaces need root");
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
    run(name, &unshare, || {
        crate::lab::sh(
            "mount -t tmpfs -o size=64m none /run && mkdir /run/netns /run/lab /run/lock",
        );
        crate::lab::sh("ip link set lo up");
        body();
    });
}

/// Says that a test cannot run here, to whoever reads its output and to `scripts/test`.
pub fn skipped(name: &str, why: &str) {
    println!("SKIPPED: {name}: {why}");
    if let Some(file) = env::var_os("VSWITCH_SKIPPED") {
        let mut list = OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .expect("VSWITCH_SKIPPED is a file to append to");
        writeln!(list, "{name}: {why}").expect("VSWITCH_SKIPPED can be written");
    }
}

fn run(name: &str, prefix: &[&str], body: impl FnOnce()) {
    if env::var(CHILD).as_deref() == Ok(name) {
        return body();
    }
    let exe = env::current_exe().expect("path of the test binary");
    let mut command = match prefix {
        [] => Command::new(exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    let args = [name, "--exact", "--nocapture", "--test-threads=1"];
    let output = command
        .args(args)
        .env(CHILD, name)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("child process");
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{name}: {}\n{out}\n{err}",
        output.status
    );
    assert!(out.contains("1 passed"), "{name} did not run:\n{out}");
    for line in out.lines().filter(|line| line.starts_with("SKIPPED:")) {
        println!("{line}");
    }
}

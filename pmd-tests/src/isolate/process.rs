//! A test in a process of its own: the test binary runs itself again for this one test.
//!
//! Needs nothing but the standard library: `vswitch/tests/dpdk` compiles this file too.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::process::Command;
use std::thread;

const CHILD: &str = "VSWITCH_TEST_CHILD";

/// The full name (`module::function`) of the test on whose thread this is called: the harness
/// names the thread after it.
pub fn this_test() -> String {
    match thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        other => panic!("thread {other:?} is not a test's"),
    }
}

/// This test binary, told to run the test that calls this and no other.
pub fn again() -> Command {
    in_front(&[])
}

fn in_front(prefix: &[&str]) -> Command {
    let exe = env::current_exe().expect("path of the test binary");
    let mut command = match prefix {
        [] => Command::new(exe),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(exe);
            command
        }
    };
    let name = this_test();
    command.args([&name, "--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// Runs the rest of a test, `body`, in a process that is started through `prefix` (a program and
/// its arguments, which runs the command that follows them).
pub fn isolated_through(prefix: &[&str], body: impl FnOnce()) {
    let name = this_test();
    if env::var(CHILD).as_deref() == Ok(&name) {
        return body();
    }
    let output = in_front(prefix)
        .env(CHILD, &name)
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
    // Behind what the harness has begun the line with.
    let told = |line: &str| {
        let at = ["SKIPPED:", "MEASURED:"]
            .iter()
            .filter_map(|it| line.find(it))
            .min()?;
        Some(line[at..].to_owned())
    };
    for line in out.lines().filter_map(told) {
        println!("{line}");
    }
}

/// Says that this test cannot run here, to whoever reads its output and to `scripts/test`.
pub fn skipped(why: &str) {
    let name = this_test();
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

//! Network namespaces for the tests of the host room: made, entered and deleted here.
use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Whether the tests can run; says why not.
pub(crate) fn possible() -> bool {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: network namespaces need root");
        return false;
    }
    for (program, package) in [("ip", "iproute2"), ("nft", "nftables")] {
        if Command::new(program).arg("-V").output().is_err() {
            eprintln!("SKIPPED: `{program}` is missing (apt-get install {package})");
            return false;
        }
    }
    true
}

/// A namespace, deleted with everything in it when dropped.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("vswitch-{}-{number}", std::process::id());
        command("ip", &["netns", "add", &name]);
        let namespace = Self(name);
        namespace.ip("link set lo up");
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs `ip` with these words inside.
    pub(crate) fn ip(&self, words: &str) -> String {
        let mut args = vec!["-n", &self.0];
        args.extend(words.split_whitespace());
        command("ip", &args)
    }

    /// Runs a program inside.
    pub(crate) fn exec(&self, words: &str) -> String {
        let mut args = vec!["netns", "exec", &self.0];
        args.extend(words.split_whitespace());
        command("ip", &args)
    }

    /// A veth pair between this and another namespace, both ends up.
    pub(crate) fn join(&self, mine: &str, other: &Namespace, theirs: &str) {
        let there = other.name();
        self.ip(&format!(
            "link add {mine} type veth peer name {theirs} netns {there}"
        ));
        self.ip(&format!("link set {mine} up"));
        other.ip(&format!("link set {theirs} up"));
    }

    pub(crate) fn mac(&self, interface: &str) -> [u8; 6] {
        let text = self.ip(&format!("-br link show dev {interface}"));
        let word = text.split_whitespace().nth(2).expect("a MAC address");
        let bytes: Vec<u8> = word
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).expect("hexadecimal"))
            .collect();
        bytes.try_into().expect("six bytes")
    }

    /// Runs a task to its end on a thread that lives in this namespace.
    pub(crate) fn run<T: Send, F: Future<Output = T>>(&self, task: impl FnOnce() -> F + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.0)).expect("the namespace");
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                    .expect("setns");
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("a runtime")
                    .block_on(task())
            });
            match thread.join() {
                Ok(value) => value,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub(crate) fn command(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {}: {}",
        args.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

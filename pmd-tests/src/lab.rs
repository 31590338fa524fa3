//! The machine around the daemons: commands, namespaces, cables.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where the files of a test go; see [`crate::isolate::isolated_in_lab`].
pub const DIR: &str = "/run/lab";

/// Runs a shell command that must succeed, and returns what it printed.
#[track_caller]
pub fn sh(command: &str) -> String {
    let output = Command::new("sh")
        .args(["-ec", command])
        .stdin(Stdio::null())
        .output()
        .expect("sh");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command}: {}\n{out}{err}",
        output.status
    );
    out
}

/// Waits until something is so, and returns it.
#[track_caller]
pub fn wait_for<T>(what: &str, seconds: u64, mut so: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    loop {
        if let Some(it) = so() {
            return it;
        }
        assert!(
            Instant::now() < deadline,
            "after {seconds} s still not: {what}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes the namespaces of two hosts, `a` and `b`.
pub fn two_hosts() {
    for host in ["a", "b"] {
        sh(&format!(
            "ip netns add {host} && ip -n {host} link set lo up"
        ));
    }
}

/// Joins the hosts by a cable: `IFACE` in both namespaces, with the MAC addresses of
/// [`cable_mac`], nothing of the kernel's own on it.
pub fn cable(index: u8) {
    let iface = format!("vh{index}");
    sh(&format!(
        "ip -n a link add {iface} type veth peer name {iface} netns b"
    ));
    for (host, n) in [("a", 1), ("b", 2)] {
        let mac = cable_mac(index, n);
        sh(&format!(
            "ip netns exec {host} sysctl -qw net.ipv6.conf.{iface}.disable_ipv6=1
             ip netns exec {host} ethtool -K {iface} tx off tso off gso off gro off >/dev/null
             ip -n {host} link set {iface} address {mac} up"
        ));
    }
}

/// MAC address of an end of a cable: host 1 is `a`, 2 is `b`.
pub fn cable_mac(index: u8, host: u8) -> String {
    format!("02:00:00:00:{index:02x}:{host:02x}")
}

/// Runs `body` on a thread in the network namespace of a host.
pub fn on_host<T: Send>(host: &str, body: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            let file = std::fs::File::open(format!("/run/netns/{host}")).expect("a namespace");
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("root");
            body()
        });
        thread.join().expect("no panic")
    })
}

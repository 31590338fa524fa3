//! What every foreign peer has to show: its tenant and ours reach one another by ping and by
//! TCP, in both directions, byte for byte, and both ends count the same packets.

use std::sync::atomic::{AtomicU16, Ordering};

use serde_json::Value;
use vswitch::manage::status::{Status, Traffic};

use crate::daemon::Daemon;
use crate::guest::Guest;
use crate::lab::{sh, wait_for};

/// Somewhere that commands are run: a guest, or a network namespace.
pub trait Shell {
    /// Runs a shell line that must succeed.
    fn run(&self, line: &str) -> String;
    /// Runs a shell line and says whether it succeeded.
    fn succeeds(&self, line: &str) -> bool;
}

impl Shell for Guest {
    fn run(&self, line: &str) -> String {
        self.sh(line)
    }

    fn succeeds(&self, line: &str) -> bool {
        Guest::succeeds(self, line)
    }
}

/// A network namespace of this machine.
pub struct Namespace(pub &'static str);

impl Namespace {
    fn inside(&self, line: &str) -> Vec<String> {
        let words = ["netns", "exec", self.0, "sh", "-ec", line];
        words.map(str::to_owned).to_vec()
    }
}

impl Shell for Namespace {
    fn run(&self, line: &str) -> String {
        let output = std::process::Command::new("ip")
            .args(self.inside(line))
            .stdin(std::process::Stdio::null())
            .output()
            .expect("ip");
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            output.status.success(),
            "{}: {line}: {}\n{out}{}",
            self.0,
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        out
    }

    fn succeeds(&self, line: &str) -> bool {
        let output = std::process::Command::new("ip")
            .args(self.inside(line))
            .stdin(std::process::Stdio::null())
            .output();
        output.is_ok_and(|output| output.status.success())
    }
}

/// Ten pings, ten answers. The first may have to wait for the tunnel and for ARP.
#[track_caller]
pub fn pings(from: &dyn Shell, to: &str) {
    wait_for(&format!("an answer of {to}"), 120, || {
        from.succeeds(&format!("ping -c 1 -W 1 {to}")).then_some(())
    });
    let said = from.run(&format!("ping -c 10 -i 0.2 -W 5 {to}"));
    assert!(
        said.contains("10 packets transmitted, 10 ")
            && said.contains(", 0% packet loss")
            && !said.contains("DUP!"),
        "{said}"
    );
}

/// Bytes that a TCP connection carries here: many segments, and a part of one.
const BYTES: usize = 1_000_003;

/// A TCP connection from one place to another, where `address` is the second's, carries
/// random bytes unchanged, and another one back.
#[track_caller]
pub fn tcp_both_ways(from: &dyn Shell, to: &dyn Shell, address: &str) {
    carry(from, to, address, Direction::There);
    carry(from, to, address, Direction::Back);
}

#[derive(Clone, Copy)]
enum Direction {
    There,
    Back,
}

/// `client` connects to `server`; the bytes go there or come back.
#[track_caller]
fn carry(client: &dyn Shell, server: &dyn Shell, address: &str, direction: Direction) {
    // A port of its own for each: no waiting for the last connection's end.
    static PORT: AtomicU16 = AtomicU16::new(7000);
    let port = PORT.fetch_add(1, Ordering::Relaxed);
    let (sent, got) = (format!("/run/sent-{port}"), format!("/run/got-{port}"));
    let listen = match address.contains(':') {
        true => format!("TCP6-LISTEN:{port},reuseaddr"),
        false => format!("TCP4-LISTEN:{port},reuseaddr"),
    };
    let connect = match address.contains(':') {
        true => format!("TCP6:[{address}]:{port},retry=100,interval=0.1"),
        false => format!("TCP4:{address}:{port},retry=100,interval=0.1"),
    };
    let (source, sink) = (format!("OPEN:{sent}"), format!("CREATE:{got}"));
    let (sender, receiver) = match direction {
        Direction::There => (client, server),
        Direction::Back => (server, client),
    };
    sender.run(&format!("head -c {BYTES} /dev/urandom >{sent}"));
    let (listens, connects) = match direction {
        Direction::There => (format!("{listen} {sink}"), format!("{source} {connect}")),
        Direction::Back => (format!("{source} {listen}"), format!("{connect} {sink}")),
    };
    server.run(&format!(
        "(timeout 60 socat -u {listens} >/dev/null 2>&1 </dev/null &)"
    ));
    client.run(&format!("timeout 55 socat -u {connects}"));
    let sum = |shell: &dyn Shell, file: &str| {
        let line = shell.run(&format!("wc -c <{file}; sha256sum <{file}"));
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    };
    let expected = sum(sender, &sent);
    assert!(expected.starts_with(&BYTES.to_string()), "{expected}");
    wait_for("the same bytes at the other end", 20, || {
        (sum(receiver, &got) == expected).then_some(())
    });
}

/// Packets received and sent by the interface over there.
pub fn interface(shell: &dyn Shell, name: &str) -> (u64, u64) {
    // Not by JSON: the guest's `ip` may be busybox's.
    let counter = |which: &str| {
        let text = shell.run(&format!("cat /sys/class/net/{name}/statistics/{which}"));
        text.trim().parse::<u64>().expect("a number")
    };
    (counter("rx_packets"), counter("tx_packets"))
}

/// The same for a namespace, where sysfs may be of another one.
pub fn interface_in(namespace: &str, name: &str) -> (u64, u64) {
    let text = sh(&format!("ip -n {namespace} -s -j link show {name}"));
    let json: Value = serde_json::from_str(&text).expect("ip prints JSON");
    let counter = |direction: &str| {
        json[0]["stats64"][direction]["packets"]
            .as_u64()
            .expect("a counter")
    };
    (counter("rx"), counter("tx"))
}

/// The counters of a network's tunnel.
#[track_caller]
pub fn tunnel(status: &Status, vn: &str) -> Traffic {
    let tunnel = status.tunnels.iter().find(|t| t.vn == vn);
    tunnel.expect("a tunnel").traffic
}

/// Waits until both ends have counted the same: what the peer's interface received and sent
/// is what the tunnel sent and received, and neither end lost a packet.
#[track_caller]
pub fn both_count_the_same(edge: &Daemon, vn: &str, peers: impl Fn() -> (u64, u64)) -> Traffic {
    let mut last = None;
    let agree = || {
        let (received, sent) = peers();
        let traffic = tunnel(&edge.status(), vn);
        last = Some((received, sent, traffic));
        let same = (traffic.tx_packets, traffic.rx_packets) == (received, sent);
        same.then_some(traffic)
    };
    let began = std::time::Instant::now();
    let mut agree = agree;
    let traffic = loop {
        if let Some(traffic) = agree() {
            break traffic;
        }
        if began.elapsed().as_secs() > 10 {
            panic!("{vn}: the peer received and sent, the tunnel counted: {last:?}");
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    };
    assert!(traffic.rx_packets > 0 && traffic.tx_packets > 0, "{traffic:?}");
    assert_eq!((traffic.rx_dropped, traffic.tx_dropped), (0, 0), "{vn}");
    traffic
}

//! What every foreign peer has to show: its tenant and ours reach one another by ping and by
//! TCP, in both directions, byte for byte, and both ends count the same packets.

use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use vswitch::manage::status::{Status, Traffic};

use crate::daemon::Daemon;
use crate::guest::Guest;
use crate::lab::wait_for;

/// Somewhere that commands are run: a guest, or a network namespace.
pub trait Shell {
    /// Runs a shell line that must succeed.
    fn run(&self, line: &str) -> String;
    /// Runs a shell line and says whether it succeeded.
    fn succeeds(&self, line: &str) -> bool;
}

impl Shell for Guest {
    fn run(&self, line: &str) -> String {
        self.sh(&format!("set -e\n{line}"))
    }

    fn succeeds(&self, line: &str) -> bool {
        Guest::succeeds(self, line)
    }
}

/// A network namespace of this machine.
pub struct Namespace(pub &'static str);

impl Namespace {
    fn inside(&self, line: &str) -> Output {
        Command::new("ip")
            .args(["netns", "exec", self.0, "sh", "-ec", line])
            .stdin(Stdio::null())
            .output()
            .expect("ip")
    }
}

impl Shell for Namespace {
    fn run(&self, line: &str) -> String {
        let output = self.inside(line);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout).into_owned(),
            String::from_utf8_lossy(&output.stderr),
        );
        let status = output.status;
        assert!(status.success(), "{}: {line}: {status}\n{out}{err}", self.0);
        out
    }

    fn succeeds(&self, line: &str) -> bool {
        self.inside(line).status.success()
    }
}

/// Waits for an answer: the first packet may have to wait for the tunnel and for ARP.
#[track_caller]
pub fn reach(from: &dyn Shell, to: &str) {
    wait_for(&format!("an answer of {to}"), 60, || {
        from.succeeds(&format!("ping -c 1 -W 1 {to}")).then_some(())
    });
}

/// Ten pings, ten answers.
#[track_caller]
pub fn pings(from: &dyn Shell, to: &str) {
    reach(from, to);
    let said = from.run(&format!("ping -c 10 -i 0.1 -W 5 {to}"));
    assert!(
        said.contains("10 packets transmitted, 10 ")
            && said.contains(", 0% packet loss")
            && !said.contains("DUP!"),
        "{said}"
    );
}

/// Bytes that a TCP connection carries here: many segments, and a part of one.
const BYTES: usize = 300_003;

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
        line.split_whitespace()
            .take(2)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let expected = sum(sender, &sent);
    assert!(expected.starts_with(&BYTES.to_string()), "{expected}");
    wait_for("the same bytes at the other end", 20, || {
        (sum(receiver, &got) == expected).then_some(())
    });
}

/// Packets that an interface over there has received and sent.
pub fn interface(shell: &dyn Shell, name: &str) -> (u64, u64) {
    let text = shell.run(&format!("ip -s -j link show {name}"));
    let json: Value = serde_json::from_str(&text).expect("ip prints JSON");
    let counter = |direction: &str| json[0]["stats64"][direction]["packets"].as_u64();
    (
        counter("rx").expect("a counter"),
        counter("tx").expect("a counter"),
    )
}

/// The counters of a network's tunnel.
#[track_caller]
pub fn tunnel(status: &Status, vn: &str) -> Traffic {
    let tunnel = status.tunnels.iter().find(|t| t.vn == vn);
    tunnel.expect("a tunnel").traffic
}

/// The counters of both ends of a network: the tunnel's, and what the peer has received and
/// sent.
pub struct Meter<'a, Peer> {
    edge: &'a Daemon,
    vn: &'a str,
    peer: Peer,
    before: (Traffic, (u64, u64)),
}

impl<'a, Peer: Fn() -> (u64, u64)> Meter<'a, Peer> {
    /// Waits until nothing is under way, and begins.
    #[track_caller]
    pub fn start(edge: &'a Daemon, vn: &'a str, peer: Peer) -> Meter<'a, Peer> {
        let read = || (tunnel(&edge.status(), vn), peer());
        let before = wait_for("nothing under way", 20, || {
            let first = read();
            thread::sleep(Duration::from_millis(100));
            (read() == first).then_some(first)
        });
        Meter {
            edge,
            vn,
            peer,
            before,
        }
    }

    /// Waits until both ends have counted the same since then: what the peer received and
    /// sent is what the tunnel sent and received, and the tunnel dropped nothing. Returns
    /// the packets that it sent and received.
    #[track_caller]
    pub fn both_ends_agree(&self) -> (u64, u64) {
        let began = Instant::now();
        let (was, (was_received, was_sent)) = self.before;
        loop {
            let now = tunnel(&self.edge.status(), self.vn);
            let (received, sent) = (self.peer)();
            let tunnel = (
                now.tx_packets - was.tx_packets,
                now.rx_packets - was.rx_packets,
            );
            let peer = (received - was_received, sent - was_sent);
            if tunnel == peer {
                assert!(tunnel.0 > 0 && tunnel.1 > 0, "{}: {tunnel:?}", self.vn);
                assert_eq!(
                    (now.rx_dropped, now.tx_dropped),
                    (was.rx_dropped, was.tx_dropped)
                );
                return tunnel;
            }
            assert!(
                began.elapsed().as_secs() < 10,
                "{}: sent and received {tunnel:?}, the peer received and sent {peer:?}",
                self.vn
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
}

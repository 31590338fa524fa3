//! The underlay of several hosts: a bridge in the namespace `wire`, on which a test cuts what it
//! likes, counts, and looks at everything that passes.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pcap_file::pcap::PcapReader;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::lab::{DIR, cable_mac, sh, wait_for};

/// Makes the wire. Of each host `edges` it ends at `vh0`, which is for a switch, `a` being 192.0.2.1
/// there; the kernels of `others` have `eth0` with the address given.
pub fn wire(edges: &[&str], others: &[(&str, &str)]) {
    sh("ip netns add wire
        ip netns exec wire sysctl -qw net.ipv6.conf.all.disable_ipv6=1 \
            net.ipv6.conf.default.disable_ipv6=1
        ip -n wire link set lo up
        ip -n wire link add br0 type bridge mcast_snooping 0 forward_delay 0
        ip -n wire link set br0 up
        ip netns exec wire nft -f - <<END
        table bridge wire {
            chain cut { type filter hook forward priority 0; policy accept; }
            chain count { type filter hook forward priority 10; policy accept; }
        }
END
        ");
    let edges = edges.iter().map(|host| (*host, "vh0"));
    let hosts = edges.chain(others.iter().map(|(host, _)| (*host, "eth0")));
    for (n, (host, iface)) in (1..).zip(hosts) {
        let mac = cable_mac(0, n);
        sh(&format!(
            "ip netns add {host}
             ip -n {host} link set lo up
             ip -n wire link add name {host} type veth peer name {iface} netns {host}
             ip netns exec {host} sysctl -qw net.ipv6.conf.{iface}.disable_ipv6=1
             ip netns exec {host} ethtool -K {iface} tx off tso off gso off gro off >/dev/null
             ip netns exec wire ethtool -K {host} tx off tso off gso off gro off >/dev/null
             ip -n {host} link set {iface} address {mac} up
             ip -n wire link set dev {host} master br0 up"
        ));
    }
    for (host, address) in others {
        sh(&format!("ip -n {host} addr add {address}/24 dev eth0"));
    }
}

fn rule(chain: &str, what: &str, end: &str) -> Cut {
    let said = sh(&format!(
        "ip netns exec wire nft -e -a add rule bridge wire {chain} '{what} counter {end}'"
    ));
    let (_, handle) = said.rsplit_once("# handle ").expect("nft says which");
    Cut(handle.trim().to_owned())
}

/// A rule by which packets are lost.
#[derive(Debug)]
pub struct Cut(String);

impl Cut {
    /// They pass again.
    pub fn mend(self) {
        let handle = self.0;
        sh(&format!(
            "ip netns exec wire nft delete rule bridge wire cut handle {handle}"
        ));
    }
}

/// Cuts what matches, in the words of nftables: `iifname a udp dport 4700`.
pub fn cut(what: &str) -> Cut {
    rule("cut", what, "drop")
}

/// Cuts what passes between two hosts, both ways.
pub fn part(one: &str, other: &str) -> [Cut; 2] {
    [(one, other), (other, one)].map(|(from, to)| cut(&format!("iifname {from} oifname {to}")))
}

/// Packets that were cut since the wire was whole.
pub fn lost() -> u64 {
    counted("cut").into_iter().map(|(packets, _)| packets).sum()
}

/// The wire is whole again.
pub fn mend() {
    sh("ip netns exec wire nft flush chain bridge wire cut");
}

/// Counts what matches each of these, from now on and instead of what was counted before.
pub fn count(what: &[&str]) {
    sh("ip netns exec wire nft flush chain bridge wire count");
    for what in what {
        rule("count", what, "");
    }
}

/// Packets, and bytes of frames, that did.
pub fn passed() -> Vec<(u64, u64)> {
    counted("count")
}

fn counted(chain: &str) -> Vec<(u64, u64)> {
    let text = sh(&format!(
        "ip netns exec wire nft -j list chain bridge wire {chain}"
    ));
    let json: Value = serde_json::from_str(&text).expect("nft prints JSON");
    let rules = json["nftables"].as_array().expect("a list").iter();
    let expressions = rules.filter_map(|rule| rule["rule"]["expr"].as_array());
    let counters = expressions.flatten().filter_map(|expr| {
        let counter = expr.get("counter")?;
        Some((counter["packets"].as_u64()?, counter["bytes"].as_u64()?))
    });
    counters.collect()
}

/// Everything that passes is written down. Dropping it ends that.
pub struct Observer(Child);

impl Observer {
    /// Begins.
    pub fn start() -> Observer {
        let log = File::create(format!("{DIR}/tcpdump.log")).expect("log");
        let child = Command::new("ip")
            .args([
                "netns", "exec", "wire", "tcpdump", "-Z", "root", "-i", "br0",
            ])
            .args(["-n", "-U", "--immediate-mode", "-B", "16384"])
            .args(["-w", &format!("{DIR}/wire.pcap")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("tcpdump");
        wait_for("tcpdump listens", 10, || {
            let said = std::fs::read_to_string(format!("{DIR}/tcpdump.log")).ok()?;
            said.contains("listening on").then_some(())
        });
        Observer(child)
    }

    /// Ends, and returns every frame.
    pub fn frames(mut self) -> Vec<Vec<u8>> {
        kill_process(Pid::from_child(&self.0), Signal::INT).expect("tcpdump");
        self.0.wait().expect("wait");
        let file = File::open(format!("{DIR}/wire.pcap")).expect("a capture");
        let mut reader = PcapReader::new(std::io::BufReader::new(file)).expect("a pcap file");
        let mut frames = Vec::new();
        while let Some(packet) = reader.next_packet() {
            frames.push(packet.expect("a packet").data.into_owned());
        }
        frames
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Nothing but ARP, ICMPv6 of the hosts themselves, ESP and QUIC was on the wire, and `secret` was in none.
/// Returns how many packets of ESP there were.
#[track_caller]
pub fn nothing_in_the_clear(frames: &[Vec<u8>], secret: &[u8]) -> usize {
    let control = |port| [4600, 4700].contains(&port);
    let mut esp = 0;
    for frame in frames {
        let of = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
        let seen = frame.windows(secret.len()).any(|part| part == secret);
        assert!(!seen, "a tenant's data in the clear: {frame:02x?}");
        match (of(12), frame.get(23)) {
            (0x0806, _) => {}
            // A host's kernel joins groups (RFC 3810): ICMPv6, behind hop-by-hop options or not.
            (0x86dd, _) if frame[20] == 58 || frame[20] == 0 && frame[54] == 58 => {}
            // Control traffic, which is QUIC: nothing about its bytes is certain (RFC 9287).
            (0x0800, Some(17)) if [of(34), of(36)].iter().all(|port| control(*port)) => {}
            (0x0800, Some(17)) if of(36) == 4500 => esp += 1,
            // Of hosts, that a port is closed while its process is dead.
            (0x0800, Some(1)) if frame[34] == 3 => {}
            other => panic!("{other:?} on the wire: {frame:02x?}"),
        }
    }
    esp
}

/// Long enough for what is under way on the wire to arrive.
pub const UNDER_WAY: Duration = Duration::from_millis(200);

//! Rekeying under duress: beside a peer that stands still, and while strangers begin ten thousand
//! handshakes with an edge and with the authority.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use pmd_tests::asking::{rekeyed, show, stands};
use pmd_tests::bridge::{count, passed, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, on_host, sh};
use pmd_tests::overlay::{AUTHORITY, By, Ima, Tenant, declaration, edge, pause, pki, plug};
use pmd_tests::spoof::flood;
use pmd_tests::stream::Stream;

const TENANTS: [Tenant; 4] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
    Tenant::new("t3", "c", "red", 3),
    // Beside the first: what it gets at once from who stood still fills its ring, and no other's.
    Tenant::new("t4", "a", "red", 4),
];

/// By use, every second or so.
const REKEY: &str = "  rekey-blocks: 12000";
const PER_SECOND: u32 = 500;
/// Handshakes with each of two servers.
const HANDSHAKES: u32 = 5000;
/// What a server's memory may grow by meanwhile; a handshake that it kept would take more than
/// ten KiB, and there are thousands.
const GROWTH: u64 = 24 << 20;

/// Memory of a process, in bytes (proc(5): VmRSS).
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    number.expect("VmRSS") * 1024
}

#[test]
fn rekeying_goes_on_beside_a_peer_that_stands_still_and_a_flood_of_handshakes() {
    isolated_in_lab(|| {
        let others = [("ima", "192.0.2.250"), ("x", "192.0.2.99")];
        wire(&["a", "b", "c"], &others);
        pki(&["nve a", "nve b", "nve c"]);
        let ima = Ima::start("");
        let members = ["a", "b", "c"];
        Ima::declare(&declaration(&[("red", "")], &members, &TENANTS));
        let start =
            |name: &str, n| Daemon::start(name, &edge(name, n, 1, REKEY, (By::Switches, &TENANTS)));
        let (a, b, c) = (start("a", 1), start("b", 2), start("c", 3));
        let _tenants = plug("tenants", By::Switches, &TENANTS, &TENANTS);
        stands("a", "red", &["vm1: admitted", "vm4: admitted"]);
        stands("b", "red", &["vm2: admitted"]);
        stands("c", "red", &["vm3: admitted"]);
        let stream = |from, to, n| Stream::start(from, to, n, PER_SECOND);
        let near = [stream("t1", "t2", 2), stream("t2", "t1", 1)];
        let far = [stream("t4", "t3", 3), stream("t3", "t4", 4)];
        let began = Instant::now();
        for stream in near.iter().chain(&far) {
            stream.first_after(began, 20);
        }
        let since = Instant::now();
        rekeyed("a", Some("b"));
        rekeyed("a", Some("c"));

        // `c` stands still, for longer than keys last.
        pause(c.pid(), true);
        let paused = Instant::now();
        while paused.elapsed() < Duration::from_secs(3) {
            rekeyed("a", Some("b"));
            rekeyed("b", Some("a"));
        }
        pause(c.pid(), false);
        let resumed = Instant::now();
        for stream in &far {
            let first = stream.first_after(resumed, 20);
            assert!(first - resumed < Duration::from_secs(2));
        }
        rekeyed("a", Some("c"));
        rekeyed("c", Some("a"));
        for stream in &near {
            stream.whole(since);
        }

        // Strangers. What comes back to them passes here again.
        sh("ip -n x route add local 198.18.0.0/15 dev lo
                ip -n ima route add 198.18.0.0/15 via 192.0.2.99
                ip -n a route add 198.18.0.0/15 via 192.0.2.99");
        count(&[
            "iifname x ip saddr 198.18.0.0/15 ip protocol udp",
            "oifname x ip daddr 198.18.0.0/15 ip protocol udp",
        ]);
        let processes = [ima.pid(), a.pid()];
        let before = processes.map(memory);
        let servers: [SocketAddr; 2] =
            [AUTHORITY, "192.0.2.1:4600"].map(|at| at.parse().expect("an address"));
        let since = Instant::now();
        let mut rekeyings = 0;
        let flood = std::thread::scope(|scope| {
            let flooding = scope.spawn(|| {
                on_host("x", || {
                    let credentials = format!("{DIR}/pki/nve/b");
                    let over = Duration::from_secs(4);
                    flood(Path::new(&credentials), &servers, HANDSHAKES, over)
                })
            });
            while !flooding.is_finished() {
                rekeyed("a", Some("b"));
                rekeyed("b", Some("a"));
                rekeyings += 1;
            }
            flooding.join().expect("no panic")
        });
        for stream in near.iter().chain(&far) {
            stream.whole(since);
        }
        assert_eq!(flood.handshakes, 2 * HANDSHAKES as usize);
        assert!(rekeyings > 0);
        let passed = passed();
        let [(asked, sent), (_, answered)] = passed[..] else {
            panic!("{passed:?}");
        };
        assert!(asked >= u64::from(2 * HANDSHAKES), "{asked}");
        // Some were answered, and none of them with more than he sent.
        assert!(flood.addresses > 0 && flood.most <= 100, "{flood:?}");
        assert!(answered > 0 && answered <= sent, "{answered} of {sent}");
        for (before, pid) in before.into_iter().zip(processes) {
            let now = memory(pid);
            assert!(now < before + GROWTH, "{before} bytes, then {now}");
        }
        for host in members {
            assert_eq!(show(host, "ima")["state"], "connected");
        }
        drop((near, far, ima));
        for edge in [a, b, c] {
            edge.stop();
        }
    });
}

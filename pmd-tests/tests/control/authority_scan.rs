//! What tenants ask: known addresses are answered by the switch itself, and one tenant that looks for
//! a million machines that do not exist causes no more signaling than its limit, and delays nobody.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pmd_tests::asking::{all_admitted, show};
use pmd_tests::bridge::{count, passed, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{sh, wait_for};
use pmd_tests::overlay::{By, Ima, TWO_PAIRS, declaration, edge, pki, plug};
use pmd_tests::scanner::Scanner;

/// Addresses that the scanner looks for, each way at least.
const SCANNED: u64 = 1_000_000;
/// Questions that a port may have asked a second, and at once: the default.
const PORT_QUERIES: f64 = 20.0;
/// How old what is shown of the authority may be.
const SHOWN: f64 = 0.5;

fn ima(field: &str) -> u64 {
    show("a", "ima")[field].as_u64().expect("a counter")
}

/// Frames that came from the scanner's port.
fn received() -> u64 {
    let ports = show("a", "ports");
    let mut ports = ports.as_array().expect("ports").iter();
    let of = ports.find(|port| port["name"] == "vm1").expect("a port");
    of["traffic"]["rx_packets"].as_u64().expect("a counter")
}

fn scan(from: &str, n: u8, many: u64) -> Command {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/scan.py");
    let mut command = Command::new("ip");
    command.args(["netns", "exec", from, "python3", script]);
    command.args([n.to_string(), many.to_string()]);
    command.stdin(Stdio::null());
    command
}

/// Forgets where 10.0.0.4 is and asks again; returns how long one whole ping took.
#[track_caller]
fn resolved_anew() -> Duration {
    sh("ip -n t3 neigh del 10.0.0.4 dev eth0");
    let began = Instant::now();
    sh("ip netns exec t3 ping -n -q -c 1 -W 5 10.0.0.4");
    began.elapsed()
}

#[test]
fn known_addresses_are_answered_here_and_a_scan_of_a_million_costs_its_limit() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let ima_process = Ima::start("");
        let networks = [("red", ""), ("blue", "")];
        Ima::declare(&declaration(&networks, &["a", "b"], &TWO_PAIRS));
        let a = Daemon::start("a", &edge("a", 1, 1, "", (By::Switches, &TWO_PAIRS)));
        let b = Daemon::start("b", &edge("b", 2, 1, "", (By::Switches, &TWO_PAIRS)));
        let mut scanner = Scanner::plug(&TWO_PAIRS[0]);
        let _tenants = plug("tenants", By::Switches, &TWO_PAIRS[1..], &TWO_PAIRS);
        all_admitted(&TWO_PAIRS);

        // Known addresses. Nothing but questions leaves the machine: its kernel asks, and what it
        // then would send goes no further.
        sh("ip netns exec t3 nft -f - <<END
                table netdev quiet {
                    chain out {
                        type filter hook egress device eth0 priority 0; policy accept;
                        ether type ip drop
                        icmpv6 type echo-request drop
                    }
                }
END
                ");
        // What tenants' kernels say of themselves now and then is on the wire too, but not each time.
        wait_for(
            "neighbours are known, and nobody was asked on the wire",
            20,
            || {
                sh("ip -n t3 neigh flush dev eth0");
                count(&["udp dport 4500"]);
                sh(
                    "ip netns exec t3 sh -c 'ping -n -q -c 1 -W 1 10.0.0.4 || true
                    ping -n -q -c 1 -W 1 fd00::4 || true' >/dev/null",
                );
                for address in ["10.0.0.4", "fd00::4"] {
                    let known = sh(&format!("ip -n t3 neigh show {address} dev eth0"));
                    assert!(known.contains("52:54:00:00:00:04"), "{address}: {known}");
                }
                (passed() == [(0, 0)]).then_some(())
            },
        );
        sh("ip netns exec t3 nft delete table netdev quiet");

        // Unknown ones: by ARP requests, then by packets to where nobody is.
        scanner.begin();
        for what in ["ARP requests", "packets"] {
            let before = (Ima::count("edge-messages"), ima("asked"), ima("limited"));
            let (began, first, offered) = (Instant::now(), received(), scanner.offered());
            wait_for("the scan is above its limit", 20, || {
                (ima("limited") > before.2).then_some(())
            });
            // Its first burst is over; from here on it has so many a second.
            wait_for("the burst is over", 20, || {
                let (asked, since) = (ima("asked"), Instant::now());
                std::thread::sleep(Duration::from_secs_f64(2.0 * SHOWN));
                let more = (ima("asked") - asked) as f64;
                (more <= PORT_QUERIES * (since.elapsed().as_secs_f64() + SHOWN)).then_some(())
            });
            // Another tenant finds what is known, and has its own questions asked.
            let slowest = (0..5).map(|_| resolved_anew()).max();
            let slowest = slowest.expect("five");
            let (asked, since) = (ima("asked"), Instant::now());
            assert!(scan("t3", 3, 40).status().expect("python3").success());
            wait_for("another's questions are asked beside the scan", 5, || {
                let scanners = PORT_QUERIES * (since.elapsed().as_secs_f64() + SHOWN) + 1.0;
                ((ima("asked") - asked) as f64 > scanners).then_some(())
            });
            wait_for("a million came", 60, || {
                (received() - first >= SCANNED).then_some(())
            });
            let took = began.elapsed().as_secs_f64();
            let rate = (received() - first) as f64 / took;
            let offered = (scanner.offered() - offered) as f64 / took;
            let asked = ima("asked") - before.1;
            let messages = Ima::count("edge-messages") - before.0;
            println!(
                "MEASURED: {what}: {rate:.0} of {offered:.0} a second came, {asked} questions and {messages} messages in \
                 {took:.1} s; another's resolution took {slowest:?} at most"
            );
            assert!(slowest < Duration::from_secs(1), "{slowest:?}");
            // Two ports: each its burst and its rate.
            let most = 2.0 * PORT_QUERIES + PORT_QUERIES * (took + SHOWN) + 20.0;
            assert!(asked > 0 && (asked as f64) < most, "{asked} in {took} s");
            // The authority heard these, those that are not shown yet, and the renewals of leases.
            let unseen = PORT_QUERIES * (SHOWN + 1.0);
            assert!(
                messages as f64 <= asked as f64 + unseen + 10.0,
                "{messages} of {asked}"
            );
            scanner.go_on_with_packets();
        }
        drop(scanner);
        drop(ima_process);
        a.stop();
        b.stop();
    });
}

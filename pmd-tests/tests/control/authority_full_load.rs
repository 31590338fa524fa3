//! Keys replaced again and again while as many packets go round as the path carries: every one that one
//! edge seals, the other opens, and neither drops any.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pmd_tests::asking::{all_admitted, sealing, show};
use pmd_tests::bridge::wire;
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, wait_for};
use pmd_tests::overlay::{By, Ima, PAIR, declaration, edge, pki};
use pmd_tests::testpmd::{BURST, Testpmd};

/// By use, several times a second at this load.
const REKEY: &str = "  rekey-blocks: 25000";
/// Packets under way, times [`BURST`]: a loop that is never empty and fills no ring.
const BURSTS: u64 = 8;
/// Keys that each edge has sealed with at the end.
const KEYS: usize = 20;

/// Both tenants: each sends back what it gets, addresses and ports exchanged. What the second sends
/// first has the first one's address, and ends at its edge.
fn tenants() -> Testpmd {
    let mut args: Vec<String> = Vec::new();
    for tenant in &PAIR {
        let (name, n) = (tenant.name, tenant.n);
        args.push("--vdev".to_owned());
        args.push(format!(
            "net_virtio_user{},path={DIR}/{name}.sock,queues=1,queue_size=1024,mac=52:54:00:00:00:0{n}",
            n - 1
        ));
    }
    args.push("--".to_owned());
    for n in 1..=2 {
        args.push(format!("--eth-peer={},52:54:00:00:00:0{}", n - 1, 3 - n));
    }
    let options = [
        "-i",
        "--tx-ip=10.0.0.1,10.0.0.2",
        "--forward-mode=5tswap",
        "--port-topology=loop",
        "--total-num-mbufs=8192",
        "--no-mlockall",
        "--stats-period=0",
    ];
    args.extend(options.map(str::to_owned));
    Testpmd::start("tenants", &args)
}

/// Packets into the tunnel and out of it, and packets dropped for whatever reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    sealed: u64,
    opened: u64,
    dropped: u64,
}

fn counted(host: &str) -> Counted {
    let sum = |of: &str, figure: &str| {
        let list = show(host, of);
        let list = list.as_array().expect("a list");
        let figures = list.iter().map(|one| one.pointer(figure)?.as_u64());
        figures.map(|n| n.expect("a number")).sum::<u64>()
    };
    Counted {
        sealed: sum("tunnels", "/traffic/tx_packets"),
        opened: sum("tunnels", "/traffic/rx_packets"),
        dropped: sum("drops", "/packets"),
    }
}

#[test]
fn no_packet_is_lost_to_rekeying_at_full_load() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250")]);
        pki(&["nve a", "nve b"]);
        let _ima = Ima::start("");
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &PAIR));
        let start = |name: &str, n| {
            let config = edge(name, n, 1, REKEY, (By::Switches, &PAIR));
            Daemon::start(name, &config)
        };
        let _edges = [start("a", 1), start("b", 2)];
        let mut tenants = tenants();
        all_admitted(&PAIR);

        tenants.command(&format!("start tx_first {BURSTS}"));
        // While there is no key, packets wait, and more than a few are dropped for that reason.
        wait_for("packets go round", 20, || {
            let first = counted("a");
            std::thread::sleep(Duration::from_millis(200));
            (counted("a").opened > first.opened + BURST).then_some(())
        });
        let before = ["a", "b"].map(counted);
        let (began, mut keys) = (Instant::now(), [BTreeSet::new(), BTreeSet::new()]);
        wait_for("keys were replaced", 90, || {
            for (host, keys) in ["a", "b"].into_iter().zip(&mut keys) {
                keys.extend(sealing(host, None));
            }
            keys.iter().all(|keys| keys.len() >= KEYS).then_some(())
        });
        let took = began.elapsed();
        tenants.command("stop");
        // What was under way has arrived.
        let mut last = ["a", "b"].map(counted);
        wait_for("nothing is under way", 10, || {
            std::thread::sleep(Duration::from_millis(300));
            let now = ["a", "b"].map(counted);
            (std::mem::replace(&mut last, now) == now).then_some(())
        });
        let [a, b] = last;
        let round = (a.sealed - before[0].sealed) as f64 / took.as_secs_f64();
        println!(
            "{round:.0} packets a second each way, {} and {} keys",
            keys[0].len(),
            keys[1].len()
        );
        assert_eq!(a.dropped, before[0].dropped, "by a: {}", show("a", "drops"));
        assert_eq!(b.dropped, before[1].dropped, "by b: {}", show("b", "drops"));
        assert_eq!((a.sealed, b.sealed), (b.opened, a.opened));
        assert!(round > 2000.0, "{round:.0} packets a second are no load");
    });
}

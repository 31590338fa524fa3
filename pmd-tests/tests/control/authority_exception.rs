//! One NIC for everything: an edge's sessions go through the switch's exception port to its kernel. Somebody
//! on the underlay sends that kernel as much as he can; the edge's sessions, what it is told and its rekeying do not
//! notice: the flood is far above the rate of what is neither neighbour discovery nor control, and what is above is dropped.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pmd_tests::asking::{drops, place, sealing, show, stands};
use pmd_tests::bridge::{count, passed, wire};
use pmd_tests::daemon::Daemon;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{on_host, wait_for};
use pmd_tests::overlay::{By, Ima, Tenant, declaration, edge, pki, plug};
use pmd_tests::stream::Stream;

const TENANTS: [Tenant; 3] = [
    Tenant::new("t1", "a", "red", 1),
    Tenant::new("t2", "b", "red", 2),
    Tenant::new("t3", "b", "red", 3),
];
/// How long he goes on: longer than a session between edges lives in silence, several times over.
const FLOOD: Duration = Duration::from_secs(8);
/// Packets that make it a flood: a hundred times what the edge's sessions say meanwhile.
const ENOUGH: u64 = 100_000;
/// A third of it is what the kernel gets of the flood: a tenth of [`ENOUGH`] in that time.
const KERNEL_RATE: &str = "underlay:\n  kernel-rate: 3600\n";

#[test]
fn a_flood_to_the_kernel_does_not_starve_the_edges_sessions() {
    isolated_in_lab(|| {
        wire(&["a", "b"], &[("ima", "192.0.2.250"), ("x", "192.0.2.99")]);
        pki(&["nve a", "nve b"]);
        let ima = Ima::start("");
        Ima::declare(&declaration(&[("red", "")], &["a", "b"], &TENANTS[..2]));
        let rekey = "  rekey-blocks: 6000";
        let start = |name: &str, n| {
            let config = edge(name, n, 1, rekey, (By::Switches, &TENANTS));
            Daemon::start(name, &config.replace("underlay:\n", KERNEL_RATE))
        };
        let (a, b) = (start("a", 1), start("b", 2));
        let _tenants = plug("tenants", By::Switches, &TENANTS, &TENANTS);
        stands("a", "red", &["vm1: admitted"]);
        let stream = Stream::start("t1", "t2", 2, 250);
        stream.first_after(Instant::now(), 20);
        let opened = || show("a", "peers");
        let since = Instant::now();
        count(&["iifname x ip daddr 192.0.2.1"]);
        let over = AtomicBool::new(false);
        let (rekeyings, told) = std::thread::scope(|scope| {
            scope.spawn(|| {
                on_host("x", || {
                    let socket = UdpSocket::bind("192.0.2.99:0").expect("a socket");
                    // The discard service (RFC 863), which nobody offers; answers are of no interest.
                    socket.connect("192.0.2.1:9").expect("an address");
                    while !over.load(Ordering::Relaxed) {
                        let _ = socket.send(&[0; 64]);
                    }
                });
            });
            let begin = Instant::now();
            let mut rekeyings = 0;
            while begin.elapsed() < FLOOD {
                let before = sealing("a", None);
                wait_for("`a` has other keys", 10, || {
                    let now = sealing("a", None);
                    (!now.is_empty() && now.iter().all(|spi| !before.contains(spi))).then_some(())
                });
                rekeyings += 1;
            }
            // What the authority says arrives too.
            Ima::ctl("placement add red 52:54:00:00:00:03 b vm3 --ip 10.0.0.3 --ip fd00::3");
            let asked = Instant::now();
            wait_for("`a` knows of machine 3", 10, || {
                (place("a", "red", 3)? == "b").then_some(())
            });
            let told = asked.elapsed();
            over.store(true, Ordering::Relaxed);
            (rekeyings, told)
        });
        let [(sent, _)] = passed()[..] else {
            panic!("one rule");
        };
        println!("{sent} packets, {rekeyings} rekeyings, a mapping after {told:?}");
        assert!(sent > ENOUGH, "{sent}");
        let kept = drops("a", "kernel-rate");
        assert!(kept > ENOUGH / 2, "{kept} of {sent}");
        assert!(rekeyings >= 3, "{rekeyings}");
        assert_eq!(show("a", "ima")["state"], "connected");
        assert!(!opened().as_array().is_none_or(Vec::is_empty));
        stream.whole(since);
        drop((stream, ima));
        a.stop();
        b.stop();
    });
}

//! QEMU guests on two hosts: they talk across the overlay, and guest and switch survive each
//! other's kill -9.

use std::thread;
use std::time::Duration;

use pmd_tests::daemon::Daemon;
use pmd_tests::guest::{self, Guest};
use pmd_tests::hosts::Host;
use pmd_tests::isolate::isolated_in_lab;
use pmd_tests::lab::{DIR, cable_mac, wait_for};

/// Two hosts joined by memif.
fn hosts() -> (Host, Host) {
    let device = |n: u8, role: &str| {
        format!(
            "net_memif0,role={role},id=0,socket={DIR}/m.sock,socket-abstract=no,mac={}",
            cable_mac(0, n)
        )
    };
    (
        Host::new(1, &device(1, "server")),
        Host::new(2, &device(2, "client")),
    )
}

/// The blue tenants of both hosts, reaching one another.
fn guests(a: &Host, b: &Host, options: &[&str]) -> (Guest, Guest) {
    let start = |name, n, host: &Host| {
        Guest::start(name, n, &host.socket("blue"), host.vhost_mode, options)
    };
    let guests = (start("ga", 1, a), start("gb", 2, b));
    reach(&guests.0);
    guests
}

/// Tenant 2 answers tenant 1.
fn reach(guest: &Guest) {
    wait_for("ping", 180, || {
        guest.succeeds("ping -c 1 -W 1 10.0.0.2").then_some(())
    });
    guest.sh("ping -c 3 -i 0.2 10.0.0.2 && ping -6 -c 3 -i 0.2 fd00::2");
}

/// A TCP connection from tenant 1 to tenant 2 that carries data during `seconds`, while
/// `meanwhile` happens; it must carry data again
/// at its end.
fn through<R>(a: &Guest, seconds: u64, meanwhile: impl FnOnce() -> R) -> R {
    let line = format!("iperf3 -c 10.0.0.2 -t {seconds} -i 1 -b 5M --forceflush");
    let iperf = a.spawn(seconds + 40, &line);
    thread::sleep(Duration::from_secs(3));
    let result = meanwhile();
    let output = iperf.wait_with_output().expect("iperf3");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let intervals: Vec<&str> = said
        .lines()
        .filter(|l| l.contains("bits/sec") && !l.contains("er"))
        .collect();
    assert!(intervals.len() as u64 >= seconds - 1, "{said}");
    // Emulated guests are slow beside other work: one of the last seconds may be empty.
    let late = intervals.iter().rev().take(5);
    assert!(
        late.clone().any(|line| !line.contains(" 0.00 bits/sec")),
        "it stands still at its end:\n{said}"
    );
    // What the receiver got is in its exit status: the guest's serial line may lose the text's
    // last bytes where the machine is busy.
    result
}

#[test]
fn guests_and_switches_survive_each_other() {
    guest::image();
    isolated_in_lab(|| {
        let (a, b) = hosts();
        let da = Daemon::start("a", &a.yaml());
        let db = Daemon::start("b", &b.yaml());
        let (ga, gb) = guests(&a, &b, &[]);
        // The switch goes; the connection does not.
        let db = through(&ga, 14, || {
            db.kill();
            thread::sleep(Duration::from_millis(500));
            Daemon::restart("b")
        });
        reach(&ga);
        // The guest goes and comes back.
        gb.kill();
        da.status();
        let gb = Guest::start("gb", 2, &b.socket("blue"), b.vhost_mode, &[]);
        reach(&ga);
        gb.sh("ping -c 1 -W 2 10.0.0.1");
        da.stop();
        db.stop();
    });
}

#[test]
fn guests_connect_to_a_switch_that_is_the_server_over_two_queues() {
    guest::image();
    isolated_in_lab(|| {
        let (mut a, mut b) = hosts();
        for host in [&mut a, &mut b] {
            host.vhost_mode = "server";
            host.queues = 2;
            host.cores = vec![0, 1];
        }
        let da = Daemon::start("a", &a.yaml());
        let db = Daemon::start("b", &b.yaml());
        let (ga, gb) = guests(&a, &b, &["--queues", "2"]);
        let status = da.wait("two queues", |s| {
            s.ports.iter().any(|p| p.name == "a-blue" && p.queues == 2)
        });
        let port = status
            .ports
            .iter()
            .find(|p| p.name == "a-blue")
            .expect("a port");
        assert_eq!(port.workers, [0, 1]);
        let db = through(&ga, 14, || {
            db.kill();
            thread::sleep(Duration::from_millis(500));
            Daemon::restart("b")
        });
        gb.sh("ping -c 1 -W 2 10.0.0.1");
        reach(&ga);
        da.stop();
        db.stop();
    });
}

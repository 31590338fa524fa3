//! The ingress guard, on a veth pair: the kernel falls silent, packet sockets still hear.

use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::host_support::{Namespace, possible};
use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType};
use vswitch::host::{HostError, IngressGuard, disable_offloads};

const ETH_P_ALL: u16 = 3;
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];

/// Our host drives vh0; its address is on the tap beside it. The kernel of `peer` is the rest
/// of the world.
fn lab() -> (Namespace, Namespace) {
    let (host, peer) = (Namespace::new(), Namespace::new());
    host.join("vh0", &peer, "e0");
    host.ip("link add t0 type veth peer name t0p");
    host.ip("link set t0 up");
    host.ip("link set t0p up");
    peer.ip("addr add 192.0.2.2/24 dev e0");
    (host, peer)
}

/// Has the peer ask for 192.0.2.1; whether somebody answered. The answering is up to the
/// host's kernel, whichever of its interfaces carries the address (RFC 1122's weak model).
fn answers(peer: &Namespace) -> bool {
    peer.ip("neigh flush dev e0");
    peer.run(|| async {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        socket.send_to(b"?", "192.0.2.1:9").unwrap();
    });
    let deadline = Instant::now() + Duration::from_millis(1500);
    while Instant::now() < deadline {
        if peer.ip("neigh show 192.0.2.1 dev e0").contains("lladdr") {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

/// Frames that a packet socket in the host's namespace receives while `f` runs.
fn heard(host: &Namespace, f: impl FnOnce()) -> Vec<Vec<u8>> {
    let socket = host.run(|| async {
        rustix::net::socket_with(
            AddressFamily::PACKET,
            SocketType::RAW,
            SocketFlags::NONBLOCK,
            NonZeroU32::new(u32::from(ETH_P_ALL.to_be())).map(Protocol::from_raw),
        )
        .unwrap()
    });
    f();
    let mut frames = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok((length, _)) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty()) {
        frames.push(buffer[..length].to_vec());
    }
    frames
}

fn tables(host: &Namespace) -> String {
    host.exec("nft list tables")
}

#[test]
fn the_kernel_is_silent_while_packet_sockets_hear_everything() {
    if !possible() {
        return;
    }
    let (host, peer) = lab();
    host.ip("addr add 192.0.2.1/24 dev t0");
    assert!(
        answers(&peer),
        "without a guard the kernel answers beside us"
    );

    let guard = host.run(|| IngressGuard::install("vh0")).unwrap();
    assert_eq!(guard.interface(), "vh0");
    let mut answered = true;
    let frames = heard(&host, || answered = answers(&peer));
    assert!(!answered, "the kernel answers in spite of the guard");
    let asked = frames
        .iter()
        .filter(|frame| frame.get(12..14) == Some(&ETHERTYPE_ARP))
        .count();
    assert!(asked > 0, "packet sockets do not hear the ARP request");
    assert_eq!(
        host.exec("cat /proc/sys/net/ipv6/conf/vh0/disable_ipv6")
            .trim(),
        "1"
    );

    // A firewall reload flushes the table; the next look puts it back.
    host.exec("nft flush ruleset");
    assert!(answers(&peer));
    host.run(|| guard.ensure()).unwrap();
    assert!(!answers(&peer));

    host.run(|| guard.remove()).unwrap();
    assert_eq!(tables(&host), "");
    assert_eq!(
        host.exec("cat /proc/sys/net/ipv6/conf/vh0/disable_ipv6")
            .trim(),
        "0"
    );
    assert!(answers(&peer));
}

#[test]
fn guards_end_with_their_owner_and_replace_stale_ones() {
    if !possible() {
        return;
    }
    let (host, _peer) = lab();
    // What a killed process leaves.
    std::mem::forget(host.run(|| IngressGuard::install("vh0")).unwrap());
    assert_eq!(tables(&host).lines().count(), 1);
    host.run(|| async {
        let guard = IngressGuard::install("vh0").await.unwrap();
        assert_eq!(tables(&host).lines().count(), 1);
        drop(guard);
    });
    assert_eq!(tables(&host), "");
}

#[test]
fn addresses_on_the_interface_are_refused_by_name() {
    if !possible() {
        return;
    }
    let (host, _peer) = lab();
    host.ip("addr add 169.254.3.4/16 dev vh0");
    let guard = host.run(|| IngressGuard::install("vh0")).unwrap();
    host.run(|| guard.remove()).unwrap();
    host.ip("addr add 192.0.2.1/24 dev vh0");
    let refused = host.run(|| IngressGuard::install("vh0")).unwrap_err();
    assert!(matches!(refused, HostError::AddressesOnDevice { .. }));
    let text = refused.to_string();
    assert!(
        text.contains("vh0") && text.contains("192.0.2.1/24"),
        "{text}"
    );
    assert!(!text.contains("169.254"), "{text}");
    assert_eq!(tables(&host), "");

    let absent = host.run(|| IngressGuard::install("nosuch")).unwrap_err();
    assert!(matches!(absent, HostError::InterfaceMissing(_)), "{absent}");
    let bad = host.run(|| IngressGuard::install("vh0\" x")).unwrap_err();
    assert!(matches!(bad, HostError::BadInterfaceName(_)), "{bad}");
}

#[test]
fn offloads_of_a_veth_go_off() {
    if !possible() {
        return;
    }
    if std::process::Command::new("ethtool")
        .arg("--version")
        .output()
        .is_err()
    {
        eprintln!("SKIPPED: `ethtool` is missing (apt-get install ethtool)");
        return;
    }
    let (host, _peer) = lab();
    let features = || host.exec("ethtool -k vh0");
    assert!(features().contains("tcp-segmentation-offload: on"));
    host.run(|| disable_offloads("vh0")).unwrap();
    for feature in [
        "tx-checksumming",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "generic-receive-offload",
    ] {
        let off = format!("{feature}: off");
        assert!(features().contains(&off), "{off} in {}", features());
    }
}

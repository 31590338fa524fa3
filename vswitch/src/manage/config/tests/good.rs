//! What a good file comes to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::super::types::{DeviceId, VnId};
use super::super::{
    Aead, AllowedIps, Attachment, Config, Direction, Encapsulation, HostFacts, Idle, Limits,
    Memory, PeerId, Protection, UnknownUnicast, VhostMode, Vlan,
};
use super::{EXAMPLE, edit, key_dir, parse};

#[test]
fn the_example_means_what_it_says() {
    let dir = key_dir();
    let config = parse(EXAMPLE, dir.path()).unwrap();
    assert_eq!(config.warnings(), []);
    assert_eq!(config.name, "host-a");
    assert_eq!(config.workers.cores, [0, 1]);
    assert_eq!(config.mempool.data_room, 2048);
    assert_eq!(config.underlay.ports[0].queues, None);
    assert_eq!(config.underlay.ports[1].tap, None);
    let linux = &config.peers[1];
    assert_eq!(linux.encapsulation, Encapsulation::Vxlan);
    assert_eq!((linux.esp_source_port, linux.foreign), (Some(4500), true));
    let [blue, red] = &config.vns[..] else {
        panic!()
    };
    assert_eq!(blue.edges, [PeerId(0)]);
    assert_eq!(red.mappings[0].peer, PeerId(1));
    // The VLAN's device has 1500 bytes, the underlay leaves blue 1488 over IPv6.
    assert_eq!((blue.inner_mtu, red.inner_mtu), (1488, 1508));
    let Attachment::Vhost(vhost) = &config.ports[1].attachment else {
        panic!()
    };
    assert_eq!(vhost.mode, VhostMode::Server);
    assert_eq!(
        (vhost.owner, vhost.group, vhost.peer_uid),
        (Some(0), Some(104), Some(107))
    );
    assert_eq!(vhost.permissions, 0o660);
    assert_eq!(config.ports[1].addresses[0].ips, AllowedIps::Any);
    let vlan = Vlan {
        device: DeviceId(0),
        vid: 100,
    };
    assert_eq!(config.ports[2].attachment, Attachment::Vlan(vlan));
    let sa = &config.security_associations[4];
    assert_eq!(
        (sa.vn, sa.peer, sa.direction),
        (VnId(1), PeerId(1), Direction::Inbound)
    );
    assert_eq!((sa.spi.get(), sa.esn, sa.worker), (0x3002, false, 0));
    assert_eq!(sa.key.file(), dir.path().join("keys/red-linux-to-a.key"));
    assert_eq!(
        sa.key
            .material(vswitch_aead::portable())
            .unwrap()
            .algorithm(),
        sa.algorithm
    );
}

#[test]
fn the_smallest_file_has_the_documented_defaults() {
    let config = parse("nve: {name: a}", Path::new("/")).unwrap();
    assert_eq!(config.warnings(), []);
    assert_eq!(
        (config.eal.memory, config.eal.memory_mb),
        (Memory::Auto, 1024)
    );
    assert_eq!(config.eal.file_prefix, "vswitch-a");
    assert_eq!(
        (
            &config.workers.cores[..],
            config.workers.idle,
            config.workers.aead
        ),
        (&[0][..], Idle::Poll, Aead::Auto)
    );
    assert_eq!(
        (
            config.mempool.mbufs,
            config.mempool.data_room,
            config.mempool.tenant_mbufs
        ),
        (16384, 2048, 2048)
    );
    assert_eq!(config.state_dir, PathBuf::from("/var/lib/vswitch"));
    assert_eq!(config.api_socket, PathBuf::from("/run/vswitch/api.sock"));
    assert_eq!(config.metrics_listen, None);
    assert_eq!(config.underlay.esp_port, 4500);
    assert!(!config.allow_key_export);
    assert!(config.underlay.local.is_empty() && config.ports.is_empty());

    let text = "
nve: {name: a}
underlay:
  ports: [{name: u, device: net_null0, addresses: [\"2001:db8::1/64\", 192.0.2.9/24, 192.0.2.1/24], tap: t}]
peers: [{name: b, addresses: [192.0.2.2]}]
vns: [{name: v, vni: 0, edges: [b]}]
ports: [{name: p, vn: v, vhost: {socket: /p}, addresses: [{mac: \"02:00:00:00:00:01\"}]}]
";
    let config = parse(text, Path::new("/")).unwrap();
    let local: Vec<String> = config
        .underlay
        .local
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(local, ["192.0.2.9", "2001:db8::1"]);
    assert_eq!(
        (
            config.underlay.ports[0].mtu,
            config.underlay.ports[0].queues
        ),
        (1500, None)
    );
    let peer = &config.peers[0];
    assert_eq!(
        (peer.encapsulation, peer.esp_source_port),
        (Encapsulation::Geneve, None)
    );
    assert!(!peer.foreign);
    let vn = &config.vns[0];
    assert_eq!(
        (vn.protection, vn.unknown_unicast),
        (Protection::Confidential, UnknownUnicast::Drop)
    );
    assert_eq!(
        (vn.learning, vn.learning_age, vn.inner_mtu),
        (false, 300, 1408)
    );
    let port = &config.ports[0];
    assert_eq!(
        (port.bum_rate, port.worker, port.learning),
        (1000, None, false)
    );
    let Attachment::Vhost(vhost) = &port.attachment else {
        panic!()
    };
    assert_eq!((vhost.mode, vhost.queues), (VhostMode::Client, 1));
    assert_eq!(
        (vhost.owner, vhost.group, vhost.peer_uid),
        (None, None, None)
    );
}

#[test]
fn limits_and_window() {
    let dir = key_dir();
    let sa = |text: &str, i: usize| {
        let config = parse(text, dir.path()).unwrap();
        let sa = &config.security_associations[i];
        (sa.limits, sa.replay_window)
    };
    let (soft, hard) = (1 << 47, 1 << 48);
    assert_eq!(sa(EXAMPLE, 1), (Limits { soft, hard }, 1024));
    // A lowered hard limit takes the soft one with it.
    let text = edit(EXAMPLE, "    soft-limit: 0x800000000000\n", "");
    let text = edit(&text, "0x1000000000000", "1000");
    assert_eq!(
        sa(&text, 0).0,
        Limits {
            soft: 500,
            hard: 1000
        }
    );
    let text = edit(EXAMPLE, "replay-window: 1024", "replay-window: 65536");
    assert_eq!(sa(&text, 2).1, 65536);
}

#[test]
fn equality_is_of_meaning() {
    let dir = key_dir();
    let config = parse(EXAMPLE, dir.path()).unwrap();
    assert_eq!(
        config,
        parse(&format!("# more\n{EXAMPLE}"), dir.path()).unwrap()
    );
    let text = edit(EXAMPLE, "vni: 1001", "vni: 1003");
    assert_ne!(config, parse(&text, dir.path()).unwrap());
    // The same text with another key.
    let key = dir.path().join("keys/blue-b-to-a.key");
    super::write_key(&key, &"5a".repeat(36), 0o600);
    assert_ne!(config, parse(EXAMPLE, dir.path()).unwrap());
    // The same key spelled differently.
    super::write_key(&key, &format!("0x{}\n", "43".repeat(36)), 0o600);
    assert_eq!(config, parse(EXAMPLE, dir.path()).unwrap());
}

#[test]
fn keys_are_not_printed() {
    let dir = key_dir();
    let config = parse(EXAMPLE, dir.path()).unwrap();
    let shown = format!("{config:?}{}", config.check_report());
    assert!(!shown.contains("4141") && !shown.contains("65, 65"));
}

#[test]
fn warnings_have_reasons() {
    let dir = key_dir();
    for (old, new, expected) in [
        (
            "        - {address: 198.51.100.254, mac: \"02:00:00:00:00:02\"}",
            "        - {address: 198.51.100.253, mac: \"02:00:00:00:00:02\"}",
            "configuration:61:17: warning: peers[1].addresses[0]: 203.0.113.7 cannot be reached: \
             its port has no tap, and 198.51.100.254 is not in the port's neighbours",
        ),
        (
            "cores: [0, 1] ",
            "cores: [1, 1] ",
            "configuration:15:14: warning: workers.cores[1]: core 1 has more than one worker; with \
             `idle: poll` they take turns only when the kernel makes them: set `idle: yield`",
        ),
        (
            "local: [192.0.2.1, \"2001:db8::1\"]",
            "local: [192.0.2.77, \"2001:db8::1\"]",
            "configuration:32:11: warning: underlay.local[0]: 192.0.2.77 is on no port of the \
             underlay: the network must route it here",
        ),
        (
            "permissions: \"0660\"",
            "permissions: \"0666\"",
            "configuration:102:7: warning: ports[1].vhost.permissions: 0666: every user of this \
             host may attach to the port",
        ),
        (
            "    learning: true\n    addresses: []",
            "    addresses: []",
            "configuration:106:5: warning: ports[2]: port `uplink-100` has no addresses: whatever \
             it sends is dropped",
        ),
    ] {
        let text = edit(EXAMPLE, old, new);
        let report = parse(&text, dir.path()).unwrap().check_report();
        let warnings: Vec<_> = report.lines().filter(|l| l.contains("warning:")).collect();
        assert_eq!(warnings, [expected], "{new}");
    }
}

#[test]
fn ways_without_keys_are_warned_of() {
    let (start, _) = EXAMPLE.split_once("security-associations:").unwrap();
    let config = parse(start, Path::new("/")).unwrap();
    let warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "vns[0].edges[0]: VN `blue` has no outbound association with `host-b`: packets \
             to it are dropped with reason no-sa",
            "vns[0].edges[0]: VN `blue` has no inbound association with `host-b`: packets \
             from it are dropped, their SPI being unknown",
            "vns[1].edges[0]: VN `red` has no outbound association with `linux`: packets \
             to it are dropped with reason no-sa",
            "vns[1].edges[0]: VN `red` has no inbound association with `linux`: packets \
             from it are dropped, their SPI being unknown",
        ]
    );
}

#[test]
fn peers_out_of_reach_are_warned_of() {
    let warning = |underlay: &str| {
        let text = format!(
            "nve: {{name: a}}\npeers: [{{name: b, addresses: [192.0.2.2]}}]\nunderlay:\n{underlay}"
        );
        let config = parse(&text, Path::new("/")).unwrap();
        let all: Vec<String> = config
            .warnings()
            .iter()
            .map(|w| w.message.clone())
            .collect();
        all.join("; ")
    };
    let port = "  ports: [{name: u, device: net_null0, addresses: [192.0.2.1/24]";
    let far = "  ports: [{name: u, device: net_null0, addresses: [10.9.9.1/24]";
    let mac = "mac: \"02:00:00:00:00:02\"";
    assert_eq!(warning(&format!("{port}, tap: t}}]")), "");
    assert_eq!(warning(&format!("{far}, tap: t}}]")), "");
    assert_eq!(
        warning(&format!(
            "{port}, neighbours: [{{address: 192.0.2.2, {mac}}}]}}]"
        )),
        ""
    );
    assert_eq!(
        warning(&format!("{port}}}]")),
        "192.0.2.2 cannot be reached: its port has no tap, and 192.0.2.2 is not in the port's \
         neighbours"
    );
    assert_eq!(
        warning(&format!("{far}}}]")),
        "192.0.2.2 cannot be reached: no port has a tap, and neither its addresses, its \
         neighbours nor underlay.routes lead there"
    );
    let route = "  routes: [{to: 0.0.0.0/0, via: 10.9.9.9}]";
    assert_eq!(
        warning(&format!("{far}}}]\n{route}")),
        "192.0.2.2 cannot be reached: its port has no tap, and 10.9.9.9 is not in the port's \
         neighbours"
    );
    let known = format!("{far}, neighbours: [{{address: 10.9.9.9, {mac}}}]}}]\n{route}");
    assert_eq!(warning(&known), "");
}

#[test]
fn the_host_is_checked_apart() {
    let dir = key_dir();
    let text = edit(EXAMPLE, "cores: [0, 1] ", "cores: [0, 7] ");
    let text = edit(&text, "memory: auto ", "memory: hugepages ");
    let config = parse(&text, dir.path()).unwrap();
    let host = HostFacts {
        cores: BTreeSet::from([0, 1, 2, 5]),
        hugepages: false,
    };
    let problems: Vec<String> = config
        .check_host(&host)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "eal.memory: this host has no hugepages: write a number to \
             /proc/sys/vm/nr_hugepages, or say `memory: auto`",
            "workers.cores[1]: this process cannot run on core 7; it can on 0-2,5",
        ]
    );
    let able = HostFacts {
        cores: BTreeSet::from([0, 7]),
        hugepages: true,
    };
    assert_eq!(config.check_host(&able), []);
}

#[test]
fn report() {
    let dir = key_dir();
    let config: Config = parse(EXAMPLE, dir.path()).unwrap();
    assert_eq!(
        config.check_report(),
        "configuration: OK
edge host-a
  workers: 2 on cores 0, 1
  buffers: 16384 per NUMA node and 2048 per vhost port, 2048 bytes of packet each
  underlay port up0: MTU 1600, tap vsw0
  underlay port up1: MTU 1600, no tap
  tunnel endpoints: 192.0.2.1, 2001:db8::1
  security associations: 3 outbound, 2 inbound
  authority: 192.0.2.250:4600; sessions of other edges on 192.0.2.1:4600
VN blue (VNI 1001, confidential): 1 edges, 1 mappings, MTU for tenants 1488
  port vm-a1: /run/vswitch/vm-a1.sock; QEMU: -device virtio-net-pci,host_mtu=1488,…
  port uplink-100: VLAN 100 of trunk0
VN red (VNI 1002, integrity): 1 edges, 1 mappings, MTU for tenants 1508
  port vm-a2: /run/vswitch/vm-a2.sock; QEMU: -device virtio-net-pci,host_mtu=1508,…
"
    );
}

#[test]
fn metrics_for_everybody_are_warned_of() {
    for (listen, warned) in [
        ("127.0.0.1:9474", false),
        ("\"[::1]:9474\"", false),
        ("0.0.0.0:9474", true),
        ("\"[2001:db8::1]:80\"", true),
    ] {
        let text = format!("nve: {{name: a}}\nmetrics: {{listen: {listen}}}\n");
        let config = parse(&text, Path::new("/")).unwrap();
        let address = listen.trim_matches('"').parse().unwrap();
        assert_eq!(config.metrics_listen, Some(address));
        let said = config
            .warnings()
            .iter()
            .any(|w| w.to_string().contains("whoever reaches this address"));
        assert_eq!(said, warned, "{listen}");
    }
}

#[test]
fn leave_to_export_keys_is_asked_for_and_warned_of() {
    let config = parse("nve: {name: a}\nallow-key-export: true", Path::new("/")).unwrap();
    assert!(config.allow_key_export);
    let [warning] = config.warnings() else {
        panic!("{:?}", config.warnings())
    };
    assert_eq!(warning.key, "allow-key-export");
    let config = parse("nve: {name: a}\nallow-key-export: false", Path::new("/")).unwrap();
    assert!(!config.allow_key_export && config.warnings().is_empty());
}

#[test]
#[cfg(target_arch = "x86_64")]
fn every_backend_can_be_named() {
    let named = |aead: &str| {
        let text = format!("nve: {{name: a}}\nworkers: {{aead: {aead}}}");
        parse(&text, Path::new("/")).map(|config| config.workers.aead)
    };
    for name in vswitch_aead::names() {
        assert_eq!(named(name).unwrap().forced(), Some(name));
    }
    assert_eq!(named("auto").unwrap().forced(), None);
    assert!(named("fpga").is_err());
}

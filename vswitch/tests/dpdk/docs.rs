//! The pages under `docs/` and the README say what the code does: packets, sizes, verdicts
//! and the example configuration are compared with it.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use vswitch::datapath::verdict::{Class, Verdict};
use vswitch::dpdk::eal::{Eal, EalConfig, Memory};
use vswitch::dpdk::mbuf::Burst;
use vswitch::dpdk::mempool::Mempool;
use vswitch::dpdk::ring_port::{Wire, ring_port};
use vswitch::manage::config::Config;
use vswitch::manage::edge::Edge;
use vswitch_net::ip::IpVersion;
use vswitch_net::mtu::{Protection, Wrapping};
use vswitch_net::tunnel::Encapsulation;
use vswitch_sa::{Algorithm, Inbound, InboundConfig, KeyMaterial, Spi};

use crate::support::isolated;

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The fenced block behind a heading or any other text that occurs once.
fn block_after<'p>(page: &'p str, mark: &str) -> &'p str {
    let (_, rest) = page
        .split_once(mark)
        .unwrap_or_else(|| panic!("no {mark:?}"));
    let (_, rest) = rest.split_once("```").expect("a block begins");
    let (_, rest) = rest.split_once('\n').expect("its first line ends");
    rest.split_once("```").expect("the block ends").0
}

/// The bytes of a dump: lines of `offset  bytes  annotation`, two blanks in between.
fn dump(page: &str, mark: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for line in block_after(page, mark).lines() {
        let mut columns = line.split("  ");
        let offset = columns.next().expect("an offset");
        let offset = usize::from_str_radix(offset, 16).unwrap_or_else(|_| panic!("{line}"));
        assert_eq!(offset, bytes.len(), "{line}");
        let digits = columns.next().expect("bytes").replace(' ', "");
        bytes.extend(hex::decode(digits).unwrap_or_else(|error| panic!("{line}: {error}")));
    }
    bytes
}

#[test]
fn every_verdict_is_explained() {
    let design = page("docs/design.md");
    let operations = page("docs/operations.md");
    for verdict in Verdict::ALL {
        let (name, help) = (verdict.name(), verdict.help());
        let class = match verdict.class() {
            Class::Sent => "sent",
            Class::Consumed => "consumed",
            Class::HandedOut => "handed out",
            Class::Dropped => "dropped",
        };
        let row = format!("| `{name}` | {class} | {help} |");
        assert!(
            design.lines().any(|line| line == row),
            "docs/design.md lacks:\n{row}"
        );
        if verdict.class() == Class::Dropped {
            let row = format!("| `{name}` ");
            let row = operations.lines().find(|line| line.starts_with(&row));
            assert!(
                row.is_some(),
                "docs/operations.md does not say what to do about `{name}`"
            );
        }
    }
    let rows = design
        .lines()
        .filter(|line| line.starts_with("| `") && line.contains("` | "));
    let classes = ["sent", "consumed", "handed out", "dropped"];
    let verdicts = rows.filter(|row| classes.contains(&row.split(" | ").nth(1).unwrap_or("")));
    assert_eq!(
        verdicts.count(),
        Verdict::COUNT,
        "docs/design.md has verdicts that are gone"
    );
}

#[test]
fn the_table_of_sizes_is_right() {
    let page = page("docs/wire-format.md");
    let (_, table) = page
        .split_once("| Underlay MTU |")
        .expect("the table of sizes");
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut seen = 0;
    for row in rows {
        let cells: Vec<usize> = row
            .split('|')
            .filter_map(|cell| cell.trim().parse().ok())
            .collect();
        let &[mtu, esp4, esp6, none4, none6] = cells.as_slice() else {
            panic!("{row}")
        };
        let inner = |ip, protection| {
            let of = |encapsulation| {
                Wrapping {
                    ip,
                    encapsulation,
                    protection,
                }
                .inner_mtu(mtu)
            };
            assert_eq!(of(Encapsulation::Geneve), of(Encapsulation::Vxlan));
            of(Encapsulation::Geneve)
        };
        let expected = [
            inner(IpVersion::V4, Protection::Esp),
            inner(IpVersion::V6, Protection::Esp),
            inner(IpVersion::V4, Protection::None),
            inner(IpVersion::V6, Protection::None),
        ];
        assert_eq!([esp4, esp6, none4, none6], expected, "{row}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen} rows");
}

#[test]
fn the_example_in_the_readme_is_accepted() {
    let readme = page("README.md");
    let text = block_after(&readme, "/etc/vswitch/nve.yaml` of host-a");
    let dir = tempfile::tempdir().unwrap();
    for line in text.lines() {
        if let Some((_, file)) = line.split_once("key-file: ") {
            let file = dir.path().join(file.trim_end_matches('}'));
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            // A key must not be there twice.
            let first = u8::from(line.contains("b-to-a"));
            write_key(&file, &[&[first][..], &[7; 35]].concat());
        }
    }
    let config = Config::parse(text, dir.path()).unwrap_or_else(|error| panic!("{error}"));
    assert!(config.warnings().is_empty(), "{:?}", config.warnings());
    // The first line names the file.
    let lines =
        |text: &str| -> Vec<String> { text.lines().skip(1).map(|l| l.trim().to_owned()).collect() };
    let claimed = block_after(&readme, "`vswitchd check` reads it");
    let claimed: Vec<String> = lines(claimed)
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(claimed, lines(&config.check_report()));
    let mtu = format!("host_mtu={}`", config.vns[0].inner_mtu);
    assert!(readme.contains(&mtu), "README.md: {mtu}");
}

#[test]
fn the_tests_that_security_names_exist() {
    let page = page("docs/security.md");
    let mut seen = 0;
    for path in page
        .split('`')
        .filter(|text| text.ends_with(".rs") || text.starts_with("scripts/"))
    {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
        assert!(file.exists(), "docs/security.md: {path}");
        seen += 1;
    }
    assert!(seen > 10);
}

fn write_key(file: &Path, key: &[u8]) {
    fs::write(file, hex::encode(key)).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// An ICMP echo request of tenant 1 to tenant 2; its length leaves three bytes of padding.
fn frame() -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0, 1, 0, 1];
    icmp.extend(b"hello, tenant");
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut ip = vec![0x45, 0, 0, 20 + icmp.len() as u8, 0, 1, 0, 0, 64, 1, 0, 0];
    ip.extend(Ipv4Addr::new(10, 0, 0, 1).octets());
    ip.extend(Ipv4Addr::new(10, 0, 0, 2).octets());
    let sum = checksum(&ip);
    ip[10..12].copy_from_slice(&sum);
    let ethernet = [0x52, 0x54, 0, 0, 0, 2, 0x52, 0x54, 0, 0, 0, 1, 8, 0];
    [&ethernet[..], &ip, &icmp].concat()
}

fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes
        .chunks(2)
        .map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let sum: u32 = words.sum();
    (!((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes()
}

const CONFIG: &str = r#"
nve: {name: host-a}
eal: {memory: no-huge, memory-mb: 128}
workers: {cores: [0], idle: yield}
mempool: {mbufs: 2048}
state-dir: DIR/state
underlay:
  ports:
    - name: up0
      device: net_ring_up0
      addresses: [192.0.2.1/24]
      neighbours: [{address: 192.0.2.2, mac: "02:00:00:00:00:0b"}]
devices: [{name: trunk0, device: net_ring_trunk0}]
peers: [{name: host-b, addresses: [192.0.2.2]}]
vns:
  - {name: blue, vni: 1001, edges: [host-b],
     mappings: [{mac: "52:54:00:00:00:02", peer: host-b}]}
  - {name: red, vni: 1002, protection: integrity, edges: [host-b],
     mappings: [{mac: "52:54:00:00:00:02", peer: host-b}]}
  - {name: grey, vni: 1003, protection: none, edges: [host-b],
     mappings: [{mac: "52:54:00:00:00:02", peer: host-b}]}
ports:
  - {name: b, vn: blue, vlan: {device: trunk0, vid: 1}, addresses: [{mac: "52:54:00:00:00:01"}]}
  - {name: r, vn: red, vlan: {device: trunk0, vid: 2}, addresses: [{mac: "52:54:00:00:00:01"}]}
  - {name: g, vn: grey, vlan: {device: trunk0, vid: 3}, addresses: [{mac: "52:54:00:00:00:01"}]}
security-associations:
  - {vn: blue, peer: host-b, direction: outbound, spi: 0x1001, algorithm: aes-256-gcm,
     key-file: blue.key}
  - {vn: red, peer: host-b, direction: outbound, spi: 0x1002, algorithm: aes-128-gmac,
     key-file: red.key}
"#;

/// Key and salt as `docs/wire-format.md` gives them.
fn key(page: &str, name: &str) -> Vec<u8> {
    let (_, rest) = page
        .split_once(&format!("{name} key "))
        .expect("the key is given");
    let digits: String = rest
        .chars()
        .skip(1)
        .take_while(char::is_ascii_hexdigit)
        .collect();
    hex::decode(digits).expect("hex")
}

#[test]
fn the_packets_are_what_an_edge_sends() {
    isolated(the_packets);
}

fn the_packets() {
    let page = page("docs/wire-format.md");
    let dir = tempfile::tempdir().unwrap();
    for name in ["blue", "red"] {
        write_key(&dir.path().join(format!("{name}.key")), &key(&page, name));
    }
    let eal = EalConfig {
        memory: Memory::NoHuge,
        memory_mb: 128,
        ..EalConfig::default()
    };
    let eal = Eal::init(&eal).expect("EAL");
    let (underlay_port, mut underlay) = ring_port("up0", 1, 64, None).expect("a port");
    let (trunk_port, mut trunk) = ring_port("trunk0", 1, 64, None).expect("a port");
    let given = BTreeMap::from([
        ("net_ring_up0".to_owned(), underlay_port),
        ("net_ring_trunk0".to_owned(), trunk_port),
    ]);
    let text = CONFIG.replace("DIR", &dir.path().display().to_string());
    let config = Config::parse(&text, dir.path()).unwrap_or_else(|error| panic!("{error}"));
    let pool = Mempool::create("test", 64, 2048, None, true).expect("a pool");
    let edge = Edge::start_on(eal, config, given).expect("an edge");
    let began = Instant::now();
    let mac = loop {
        let status = edge
            .handle()
            .status_blocking(Duration::from_secs(5))
            .expect("a report");
        if status.tunnels.iter().all(|tunnel| !tunnel.paths.is_empty()) {
            let port = status.ports.iter().find(|port| port.kind == "underlay");
            break port.expect("the port").macs[0].replace(':', "");
        }
        assert!(began.elapsed() < Duration::from_secs(10), "no next hops");
    };
    let mac = hex::decode(mac).expect("a MAC address");

    let mut sent = |vid: u8| {
        let tagged = frame();
        let tagged = [&tagged[..12], &[0x81, 0, 0, vid], &tagged[12..]].concat();
        let mut packet = pool.alloc().expect("a buffer");
        packet
            .append(tagged.len())
            .expect("room")
            .copy_from_slice(&tagged);
        let mut burst: Burst = [packet].into_iter().collect();
        assert_eq!(trunk.to_port[0].send(&mut burst), 1);
        let mut packet = next(&mut underlay);
        assert_eq!(packet[6..12], mac, "the port's own address");
        // A ring has none worth printing.
        packet[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 0x0a]);
        packet
    };
    let protected = [
        (
            1,
            "Packet 1",
            "Packet 1, deciphered",
            "blue",
            0x1001,
            Algorithm::Aes256Gcm,
        ),
        (2, "Packet 2", "", "red", 0x1002, Algorithm::Aes128Gmac),
    ];
    for (vid, mark, deciphered, name, spi, algorithm) in protected {
        let mut packet = sent(vid);
        let shown = dump(&page, &format!("### {mark}\n"));
        assert_eq!(hex::encode(&packet), hex::encode(shown), "{mark}");
        let opened = open(&mut packet[42..], spi, algorithm, &key(&page, name));
        if !deciphered.is_empty() {
            let shown = dump(&page, &format!("### {deciphered}\n"));
            assert_eq!(hex::encode(&opened), hex::encode(shown), "{deciphered}");
        }
        assert_eq!(opened[16..16 + frame().len()], frame(), "{mark}");
    }
    let shown = dump(&page, "### Packet 3\n");
    assert_eq!(hex::encode(sent(3)), hex::encode(shown), "Packet 3");
    edge.stop();
}

/// The next frame that leaves by the port.
fn next(wire: &mut Wire) -> Vec<u8> {
    let began = Instant::now();
    let mut burst = Burst::new();
    while wire.from_port[0].receive(&mut burst) == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "nothing comes out"
        );
    }
    burst
        .iter()
        .flat_map(|packet| packet.segments().flatten().copied().collect::<Vec<_>>())
        .collect()
}

/// What lies between IV and ICV, opened with the key: payload, padding, trailer.
fn open(esp: &mut [u8], spi: u32, algorithm: Algorithm, key: &[u8]) -> Vec<u8> {
    let backend = vswitch_aead::select(None).expect("a backend");
    let material = KeyMaterial::from_bytes(backend, algorithm, key).expect("a key");
    let config = InboundConfig::new(Spi::new(spi).expect("an SPI"));
    let sa = Inbound::new(material, config).expect("an association");
    let candidate = sa.precheck(esp).expect("well formed");
    let mut jobs = [sa
        .open_job(&candidate, esp, |job| job)
        .expect("the same packet")];
    backend.open(&mut jobs);
    let _authentic = candidate.verdict(&jobs[0]).expect("authentic");
    esp[16..esp.len() - 16].to_vec()
}

//! tshark with the keys reads what the switch sends, and so does the switch what it receives:
//! each inner frame to the byte.
//!
//! Independent here: Wireshark's dissectors of ESP in UDP, Geneve and VXLAN, and its AES-GCM
//! (libgcrypt's). tshark 4.0 leaves the upper half of extended numbers out of what is
//! authenticated and so cannot check their ICV, only decipher; without ESN it checks both.

use std::path::Path;
use std::process::Command;

use pmd_tests::frames::{mac, pattern, text};
use pmd_tests::isolate::isolated;
use pmd_tests::pcap;
use pmd_tests::rig::Rig;
use pmd_tests::setup::Setup;
use pmd_tests::wire::{Algorithm, Encapsulation, Sa};

/// A row of tshark's table of associations.
fn row(sa: &Sa, from: &str, to: &str) -> String {
    let family = if from.contains(':') { "IPv6" } else { "IPv4" };
    format!(
        "uat:esp_sa:\"{family}\",\"{from}\",\"{to}\",\"0x{:08x}\",\
         \"AES-GCM with 16 octet ICV [RFC4106]\",\"0x{}\",\"NULL\",\"\"",
        sa.spi,
        hex::encode(&sa.key_and_salt)
    )
}

const FIELDS: [&str; 9] = [
    "esp.spi",
    "esp.sequence",
    "esp.iv",
    "esp.icv_good",
    "esp.icv_bad",
    "geneve.vni",
    "vxlan.vni",
    "eth.dst",
    "data.data",
];

/// What tshark prints of each packet: the fields, separated by tabs.
fn tshark(capture: &Path, rows: &[String], check: bool) -> Vec<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(capture);
    let check = if check { "TRUE" } else { "FALSE" };
    command.args(["-o", "esp.enable_encryption_decode:TRUE"]);
    command.args(["-o", &format!("esp.enable_authentication_check:{check}")]);
    for row in rows {
        command.args(["-o", row]);
    }
    command.args(["-T", "fields"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    let output = command.output().expect("tshark");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said.lines().map(str::to_owned).collect()
}

/// Packets of both directions, decoded; the frames' lengths give every length of padding.
fn both_ways(setup: Setup) {
    let encapsulation = setup.peer_named("b").encapsulation;
    let esn = setup.esn;
    let (out, inn) = (setup.outbound("blue", "b"), setup.inbound("blue", "b"));
    let (here, there) = (
        setup.local.to_string(),
        setup.peer_named("b").address.to_string(),
    );
    let rows = [row(&out, &here, &there), row(&inn, &there, &here)];
    let mut rig = Rig::start(setup);
    let (ours, theirs) = (text(rig.mac()), text(rig.from("b").src_mac));
    let (mut packets, mut expected) = (Vec::new(), Vec::new());
    let mut expect = |sa: &Sa, seq: u64, outer: &str, frame: &[u8]| {
        // Unchecked it is neither good nor bad.
        let (good, bad) = if esn { ("0", "0") } else { ("1", "0") };
        let vni = match encapsulation {
            Encapsulation::Geneve => "0x0003e9\t".to_owned(),
            Encapsulation::Vxlan => "\t1001".to_owned(),
        };
        let inner = text(frame[..6].try_into().expect("6 bytes"));
        expected.push(format!(
            "0x{:08x}\t{seq}\t{seq:016x}\t{good}\t{bad}\t{vni}\t{outer},{inner}\t{}",
            sa.spi,
            hex::encode(&frame[14..])
        ));
    };
    for (len, seq) in [60, 61, 62, 63, 512, 1400].into_iter().zip(1..) {
        let frame = pattern(mac(2), mac(1), 3, len);
        rig.from_vlan(101, std::slice::from_ref(&frame));
        packets.extend(rig.settle().underlay);
        expect(&out, seq, &theirs, &frame);
        let frame = pattern(mac(1), mac(2), 7, len);
        let packet = match esn {
            true => rig.sealed("blue", "b", seq, &frame),
            false => {
                let payload = rig.overlay("blue", "b", &frame);
                rig.from("b").packet(&inn.seal_short(seq, &payload))
            }
        };
        rig.from_underlay(std::slice::from_ref(&packet));
        assert_eq!(rig.settle().trunk, [(101, frame.clone())]);
        packets.push(packet);
        expect(&inn, seq, &ours, &frame);
    }
    rig.stop();
    let dir = tempfile::tempdir().expect("a directory");
    let capture = dir.path().join("underlay.pcap");
    pcap::write(&capture, &packets);
    assert_eq!(tshark(&capture, &rows, !esn), expected);

    // With another key nothing comes out.
    let other = [row(&inn, &here, &there), row(&out, &there, &here)];
    for line in tshark(&capture, &other, false) {
        assert!(
            !line.contains(&text(mac(1))) && !line.contains(&text(mac(2))),
            "{line}"
        );
    }
    if !esn {
        // And a changed bit is seen.
        for packet in &mut packets {
            let last = packet.len() - 1;
            packet[last] ^= 1;
        }
        pcap::write(&capture, &packets);
        for line in tshark(&capture, &rows, true) {
            let fields: Vec<&str> = line.split('\t').collect();
            assert_eq!(fields[3..5], ["0", "1"], "{line}");
        }
    }
}

#[test]
fn tshark_reads_geneve_in_aes_256_gcm() {
    isolated(|| {
        both_ways(Setup::new());
    });
}

#[test]
fn tshark_reads_vxlan_in_aes_128_gcm_over_ipv6() {
    isolated(|| {
        let mut setup = Setup::over_ipv6();
        setup.vns[0].algorithm = Algorithm::Gcm128;
        setup.peers[0].encapsulation = Encapsulation::Vxlan;
        both_ways(setup);
    });
}

#[test]
fn tshark_checks_the_icv_without_extended_numbers() {
    isolated(|| {
        let mut setup = Setup::new();
        setup.vns[0].algorithm = Algorithm::Gcm128;
        setup.peers[0].foreign = true;
        setup.esn = false;
        both_ways(setup);
    });
}

//! scapy, in a process of its own, as the other edge; `peers/scapy_peer.py` says what of it
//! is used.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::frames;
use crate::wire::{Encapsulation, Outer, Sa};

/// A running scapy. Dropping it ends it.
pub struct Scapy {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What scapy finds in a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Outer headers.
    pub outer: Outer,
    /// SPI.
    pub spi: u32,
    /// Sequence number, its low half.
    pub seq: u32,
    /// IV.
    pub iv: u64,
    /// Tunnel header.
    pub encapsulation: Encapsulation,
    /// Its VNI.
    pub vni: u32,
    /// The tenant's frame.
    pub frame: Vec<u8>,
}

fn name(encapsulation: Encapsulation) -> &'static str {
    match encapsulation {
        Encapsulation::Geneve => "geneve",
        Encapsulation::Vxlan => "vxlan",
    }
}

impl Scapy {
    /// Starts it.
    pub fn start() -> Scapy {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/peers/scapy_peer.py");
        // Debian's Python: the one that python3-scapy is for.
        let mut child = Command::new("/usr/bin/python3")
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 (package python3-scapy)");
        Scapy {
            input: child.stdin.take().expect("a pipe"),
            output: BufReader::new(child.stdout.take().expect("a pipe")),
            child,
        }
    }

    fn ask(&mut self, request: &Value) -> Value {
        writeln!(self.input, "{request}").expect("scapy reads");
        let mut answer = String::new();
        self.output.read_line(&mut answer).expect("scapy answers");
        assert!(!answer.is_empty(), "scapy ended at {request}");
        serde_json::from_str(&answer).expect("JSON")
    }

    /// Seals a frame. `iv`: the sequence number if it is to be right.
    #[expect(clippy::too_many_arguments)]
    pub fn encode(
        &mut self,
        outer: &Outer,
        sa: &Sa,
        seq: u64,
        iv: u64,
        esn: bool,
        encapsulation: Encapsulation,
        vni: u32,
        frame: &[u8],
    ) -> Vec<u8> {
        let answer = self.ask(&json!({
            "op": "encode",
            "src_mac": frames::text(outer.src_mac), "dst_mac": frames::text(outer.dst_mac),
            "src": outer.src, "dst": outer.dst, "sport": outer.sport, "dport": outer.dport,
            "spi": sa.spi, "key": hex::encode(&sa.key_and_salt), "seq": seq, "iv": iv,
            "esn": esn, "encapsulation": name(encapsulation), "vni": vni,
            "frame": hex::encode(frame),
        }));
        bytes(&answer["packet"])
    }

    /// Opens a packet, given the upper half of its number; `None` if the ICV is wrong. scapy
    /// must find lengths and checksums as it would have written them.
    pub fn decode(&mut self, sa: &Sa, packet: &[u8], high: u32, esn: bool) -> Option<Decoded> {
        let answer = self.ask(&json!({
            "op": "decode", "packet": hex::encode(packet),
            "key": hex::encode(&sa.key_and_salt), "high": high, "esn": esn,
        }));
        if answer["error"] == "integrity" {
            return None;
        }
        assert_eq!(answer["again"], hex::encode(packet), "lengths, checksums");
        assert_eq!(answer["next_header"], 17);
        let number = |key: &str| answer[key].as_u64().unwrap_or_else(|| panic!("{answer}"));
        let text = |key: &str| answer[key].as_str().unwrap_or_else(|| panic!("{answer}"));
        let small = |key: &str| u32::try_from(number(key)).expect("32 bits");
        let port = |key: &str| u16::try_from(number(key)).expect("16 bits");
        let mac = |key: &str| {
            let bytes = hex::decode(text(key).replace(':', "")).expect("hexadecimal");
            bytes.try_into().expect("6 bytes")
        };
        let encapsulation = match text("encapsulation") {
            "geneve" => Encapsulation::Geneve,
            _ => Encapsulation::Vxlan,
        };
        let expected = encapsulation.port();
        assert_eq!(answer["inner_ports"], json!([expected, expected]));
        let outer = Outer {
            src_mac: mac("src_mac"),
            dst_mac: mac("dst_mac"),
            src: text("src").parse().expect("an address"),
            dst: text("dst").parse().expect("an address"),
            sport: port("sport"),
            dport: port("dport"),
        };
        assert_eq!(answer["zero_checksum"], outer.src.is_ipv4());
        Some(Decoded {
            outer,
            spi: small("spi"),
            seq: small("seq"),
            iv: number("iv"),
            encapsulation,
            vni: small("vni"),
            frame: bytes(&answer["frame"]),
        })
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    hex::decode(value.as_str().expect("a string")).expect("hexadecimal")
}

impl Drop for Scapy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

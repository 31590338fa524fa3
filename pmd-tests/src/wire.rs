//! The wire as the RFCs have it, written out by hand and sealed with the `aes-gcm` crate
//! directly: a second implementation, so that the switch is not compared with itself.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm};

use crate::frames::{self, Mac};

/// UDP port of encapsulated ESP (RFC 3948).
pub const ESP_PORT: u16 = 4500;

/// Which AEAD (RFC 4106, RFC 4543).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// `aes-128-gcm`
    Gcm128,
    /// `aes-256-gcm`
    Gcm256,
    /// `aes-128-gmac`
    Gmac128,
    /// `aes-256-gmac`
    Gmac256,
}

impl Algorithm {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::Gcm128 => "aes-128-gcm",
            Algorithm::Gcm256 => "aes-256-gcm",
            Algorithm::Gmac128 => "aes-128-gmac",
            Algorithm::Gmac256 => "aes-256-gmac",
        }
    }

    fn key_len(self) -> usize {
        match self {
            Algorithm::Gcm128 | Algorithm::Gmac128 => 16,
            Algorithm::Gcm256 | Algorithm::Gmac256 => 32,
        }
    }

    fn is_gmac(self) -> bool {
        matches!(self, Algorithm::Gmac128 | Algorithm::Gmac256)
    }
}

/// A security association as both ends know it.
#[derive(Debug, Clone)]
pub struct Sa {
    /// SPI.
    pub spi: u32,
    /// Algorithm.
    pub algorithm: Algorithm,
    /// Key, then four bytes of salt.
    pub key_and_salt: Vec<u8>,
}

/// What of a sealed packet may be chosen, to make it wrong.
#[derive(Debug, Clone)]
pub struct Craft {
    /// Sequence number, 64 bits.
    pub seq: u64,
    /// IV; the sequence number if it is to be right.
    pub iv: u64,
    /// Padding; `None`: the RFC's, as long as alignment asks for.
    pub padding: Option<Vec<u8>>,
    /// Pad length; `None`: that of the padding.
    pub pad_len: Option<u8>,
    /// Next header; 17 is right.
    pub next_header: u8,
    /// Whether the number has 64 bits, the upper of which are authenticated.
    pub esn: bool,
}

impl Craft {
    /// Everything right.
    pub fn right(seq: u64) -> Self {
        Craft {
            seq,
            iv: seq,
            padding: None,
            pad_len: None,
            next_header: 17,
            esn: true,
        }
    }
}

/// Environment variable: the process whose keys are used.
pub const KEYS_OF: &str = "VSWITCH_TEST_KEYS_OF";

impl Sa {
    /// A key of its own for each SPI, and for each process: a daemon refuses a key under
    /// which another of the host sends, and tests run side by side. A test that lives in
    /// several processes names the one whose keys they share in [`KEYS_OF`].
    pub fn new(spi: u32, algorithm: Algorithm) -> Self {
        let process = std::env::var(KEYS_OF).ok().and_then(|id| id.parse().ok());
        let process = process.unwrap_or_else(std::process::id).to_le_bytes();
        let key_and_salt = (0..algorithm.key_len() + 4)
            .map(|i| (spi.wrapping_mul(0x9e37_79b9) >> (i % 4 * 8)) as u8 ^ i as u8)
            .zip(process.into_iter().chain(std::iter::repeat(0)))
            .map(|(byte, of_process)| byte ^ of_process)
            .collect();
        Sa {
            spi,
            algorithm,
            key_and_salt,
        }
    }

    /// The text of its key file.
    pub fn key_file(&self) -> String {
        format!("{}\n", hex::encode(&self.key_and_salt))
    }

    /// An ESP packet, SPI to ICV, around `payload`.
    pub fn seal(&self, seq: u64, payload: &[u8]) -> Vec<u8> {
        self.craft(&Craft::right(seq), payload)
    }

    /// As [`Self::seal`], without extended sequence numbers.
    pub fn seal_short(&self, seq: u64, payload: &[u8]) -> Vec<u8> {
        let craft = Craft {
            esn: false,
            ..Craft::right(seq)
        };
        self.craft(&craft, payload)
    }

    /// As [`Self::seal`], with choices.
    pub fn craft(&self, craft: &Craft, payload: &[u8]) -> Vec<u8> {
        let mut text = payload.to_vec();
        let padding = craft.padding.clone().unwrap_or_else(|| {
            let len = (4 - (payload.len() + 2) % 4) % 4;
            (1..=len as u8).collect()
        });
        text.extend(&padding);
        let pad_len = craft.pad_len.unwrap_or(padding.len() as u8);
        text.extend([pad_len, craft.next_header]);
        let mut packet = self.spi.to_be_bytes().to_vec();
        packet.extend((craft.seq as u32).to_be_bytes());
        packet.extend(craft.iv.to_be_bytes());
        let mut aad = self.aad(craft.seq);
        if !craft.esn {
            aad.drain(4..8);
        }
        if self.algorithm.is_gmac() {
            // RFC 4543, 4: the IV and everything up to the ICV are authenticated only.
            aad.extend(craft.iv.to_be_bytes());
            aad.extend(&text);
            let tag = self.encrypt(craft.iv, &aad, &[]);
            packet.extend(text);
            packet.extend(tag);
        } else {
            packet.extend(self.encrypt(craft.iv, &aad, &text));
        }
        packet
    }

    /// Opens an ESP packet and returns its sequence number and payload, having checked
    /// everything that RFC 4303 and this overlay ask of it.
    pub fn open(&self, packet: &[u8]) -> (u64, Vec<u8>) {
        assert_eq!(packet[..4], self.spi.to_be_bytes(), "SPI");
        assert_eq!(packet.len() % 4, 0, "alignment");
        let low = u32::from_be_bytes(packet[4..8].try_into().expect("4 bytes"));
        let iv = u64::from_be_bytes(packet[8..16].try_into().expect("8 bytes"));
        assert_eq!(iv as u32, low, "the IV is the extended sequence number");
        let mut aad = self.aad(iv);
        let text = if self.algorithm.is_gmac() {
            let (text, icv) = packet[16..].split_at(packet.len() - 32);
            aad.extend(iv.to_be_bytes());
            aad.extend(text);
            assert_eq!(self.decrypt(iv, &aad, icv), Some(vec![]), "ICV");
            text.to_vec()
        } else {
            self.decrypt(iv, &aad, &packet[16..]).expect("ICV")
        };
        let (pad_len, next_header) = (text[text.len() - 2] as usize, text[text.len() - 1]);
        assert_eq!(next_header, 17, "next header");
        assert!(pad_len < 4, "no more padding than alignment asks for");
        let end = text.len() - 2 - pad_len;
        let padding: Vec<u8> = (1..=pad_len as u8).collect();
        assert_eq!(text[end..end + pad_len], padding[..], "padding");
        (iv, text[..end].to_vec())
    }

    /// With ESN the high half is authenticated too (RFC 4106, 5).
    fn aad(&self, seq: u64) -> Vec<u8> {
        [&self.spi.to_be_bytes()[..], &seq.to_be_bytes()].concat()
    }

    fn nonce(&self, iv: u64) -> [u8; 12] {
        let salt = &self.key_and_salt[self.algorithm.key_len()..];
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(salt);
        nonce[4..].copy_from_slice(&iv.to_be_bytes());
        nonce
    }

    fn encrypt(&self, iv: u64, aad: &[u8], msg: &[u8]) -> Vec<u8> {
        let nonce = self.nonce(iv).into();
        let payload = Payload { msg, aad };
        let key = &self.key_and_salt[..self.algorithm.key_len()];
        match key.len() {
            16 => Aes128Gcm::new_from_slice(key)
                .expect("16 bytes")
                .encrypt(&nonce, payload),
            _ => Aes256Gcm::new_from_slice(key)
                .expect("32 bytes")
                .encrypt(&nonce, payload),
        }
        .expect("short enough")
    }

    fn decrypt(&self, iv: u64, aad: &[u8], msg: &[u8]) -> Option<Vec<u8>> {
        let nonce = self.nonce(iv).into();
        let payload = Payload { msg, aad };
        let key = &self.key_and_salt[..self.algorithm.key_len()];
        match key.len() {
            16 => Aes128Gcm::new_from_slice(key)
                .ok()?
                .decrypt(&nonce, payload)
                .ok(),
            _ => Aes256Gcm::new_from_slice(key)
                .ok()?
                .decrypt(&nonce, payload)
                .ok(),
        }
    }
}

/// How frames are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encapsulation {
    /// RFC 8926.
    Geneve,
    /// RFC 7348.
    Vxlan,
}

impl Encapsulation {
    /// Destination port.
    pub fn port(self) -> u16 {
        match self {
            Encapsulation::Geneve => 6081,
            Encapsulation::Vxlan => 4789,
        }
    }

    /// The tunnel header and the frame.
    pub fn wrap(self, vni: u32, frame: &[u8]) -> Vec<u8> {
        let vni = vni << 8;
        let first: [u8; 4] = match self {
            // Version 0, no options, no flags; Transparent Ethernet Bridging.
            Encapsulation::Geneve => [0, 0, 0x65, 0x58],
            Encapsulation::Vxlan => [0x08, 0, 0, 0],
        };
        [&first[..], &vni.to_be_bytes(), frame].concat()
    }

    /// UDP without checksum, tunnel header, frame: what ESP protects over IPv4.
    pub fn datagram(self, vni: u32, frame: &[u8]) -> Vec<u8> {
        let payload = self.wrap(vni, frame);
        let port = self.port().to_be_bytes();
        let len = (8 + payload.len()) as u16;
        [&port[..], &port, &len.to_be_bytes(), &[0, 0], &payload].concat()
    }
}

/// Outer headers of an underlay packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outer {
    /// Ethernet source.
    pub src_mac: Mac,
    /// Ethernet destination.
    pub dst_mac: Mac,
    /// IP source.
    pub src: IpAddr,
    /// IP destination.
    pub dst: IpAddr,
    /// UDP source port.
    pub sport: u16,
    /// UDP destination port.
    pub dport: u16,
}

impl Outer {
    /// A frame with this UDP payload; the UDP checksum is zero over IPv4.
    pub fn packet(&self, payload: &[u8]) -> Vec<u8> {
        let mut datagram = frames::udp(self.src, self.dst, self.sport, self.dport, payload);
        match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                datagram[6..8].fill(0);
                let packet = frames::ipv4(src, dst, 17, frames::DF, 0, &datagram);
                frames::ethernet(self.dst_mac, self.src_mac, 0x0800, &packet)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let packet = frames::ipv6(src, dst, 17, &datagram);
                frames::ethernet(self.dst_mac, self.src_mac, 0x86dd, &packet)
            }
            _ => panic!("addresses of one family"),
        }
    }

    /// Takes a frame that the switch sent apart into headers and UDP payload, and checks
    /// every byte of the headers: writing them again must give the same.
    pub fn parse(frame: &[u8]) -> (Outer, Vec<u8>) {
        let ethertype = u16::from_be_bytes([frame[12], frame[13]]);
        let ip = &frame[14..];
        let (src, dst, udp): (IpAddr, IpAddr, &[u8]) = match ethertype {
            0x0800 => (
                Ipv4Addr::from(<[u8; 4]>::try_from(&ip[12..16]).expect("4 bytes")).into(),
                Ipv4Addr::from(<[u8; 4]>::try_from(&ip[16..20]).expect("4 bytes")).into(),
                &ip[20..],
            ),
            0x86dd => (
                Ipv6Addr::from(<[u8; 16]>::try_from(&ip[8..24]).expect("16 bytes")).into(),
                Ipv6Addr::from(<[u8; 16]>::try_from(&ip[24..40]).expect("16 bytes")).into(),
                &ip[40..],
            ),
            other => panic!("ethertype {other:#06x} on the underlay: {frame:02x?}"),
        };
        let outer = Outer {
            dst_mac: frame[..6].try_into().expect("6 bytes"),
            src_mac: frame[6..12].try_into().expect("6 bytes"),
            src,
            dst,
            sport: u16::from_be_bytes([udp[0], udp[1]]),
            dport: u16::from_be_bytes([udp[2], udp[3]]),
        };
        let payload = udp[8..].to_vec();
        assert_eq!(
            hex::encode(outer.packet(&payload)),
            hex::encode(frame),
            "outer headers"
        );
        (outer, payload)
    }
}

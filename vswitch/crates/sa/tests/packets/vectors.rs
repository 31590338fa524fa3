//! Whole ESP packets known from elsewhere.

use crate::common::{SPI, backend, hex, inbound, material, open, seal, spi};
use vswitch_sa::{
    Algorithm, Inbound, InboundConfig, IvMode, KeyMaterial, Outbound, OutboundConfig, Spi,
};

const PAYLOAD: &[u8] = b"Geneve goes here, all of it";

/// Computed with OpenSSL from the text of RFC 4106 and RFC 4543: algorithm, ESN, packet.
/// The sequence number is 0x7_1234_5678 with ESN, 0x1234_5678 without; the next header 17.
const PACKETS: [(Algorithm, bool, &str); 8] = [
    (
        Algorithm::Aes128Gcm,
        true,
        "1000beef1234567800000007123456789bcb929d6f754c8f6750ee359bb4f312\
         a02c938257fc9120db7b0e0a7592f378ccb399f0b9a0706b501f04ab23b5a0f1",
    ),
    (
        Algorithm::Aes128Gcm,
        false,
        "1000beef1234567800000000123456783e53acbe5054737a4afb6185e9bea4c8\
         fb159586fbb88163096d72ab4c378b271fb54e643b03c529beb3620864481bab",
    ),
    (
        Algorithm::Aes256Gcm,
        true,
        "1000beef12345678000000071234567803feba875f5db0994f5e7d83ad0e7a70\
         498f4c4bce1a8407eb824fb74fbaeecaad8862a6723cae30ef4a15ed3c9e33b6",
    ),
    (
        Algorithm::Aes256Gcm,
        false,
        "1000beef123456780000000012345678aec6b6d7e045620390affe6dba338c4f\
         f6779e93822a1b5b4be375dfef99fd00f59c72d14082e40e59cd913bb2640ae7",
    ),
    (
        Algorithm::Aes128Gmac,
        true,
        "1000beef12345678000000071234567847656e65766520676f65732068657265\
         2c20616c6c206f662069740102030311a8afad28bf991ad5aae74211510b1c85",
    ),
    (
        Algorithm::Aes128Gmac,
        false,
        "1000beef12345678000000001234567847656e65766520676f65732068657265\
         2c20616c6c206f662069740102030311c56e0b78be98944ae697c93bd3c8798d",
    ),
    (
        Algorithm::Aes256Gmac,
        true,
        "1000beef12345678000000071234567847656e65766520676f65732068657265\
         2c20616c6c206f662069740102030311e5cfae3c9c71ab3d6f51337d5738fc9d",
    ),
    (
        Algorithm::Aes256Gmac,
        false,
        "1000beef12345678000000001234567847656e65766520676f65732068657265\
         2c20616c6c206f662069740102030311cc07788178ca0e04346f4c47f026bfef",
    ),
];

#[test]
fn sealed_and_opened_byte_for_byte() {
    for (algorithm, esn, packet) in PACKETS {
        let seq = if esn { 0x7_1234_5678 } else { 0x1234_5678 };
        let config = OutboundConfig {
            esn,
            ..OutboundConfig::reserved(spi(), seq, seq + 1)
        };
        let mut sender = Outbound::new(material(algorithm), config).unwrap();
        let mut sent = seal(&mut sender, PAYLOAD, 17).unwrap();
        assert_eq!(sent, hex(packet), "{algorithm} esn {esn}");

        let config = InboundConfig {
            esn,
            ..InboundConfig::new(spi())
        };
        let mut receiver = Inbound::new(material(algorithm), config).unwrap();
        let opened = open(&mut receiver, &mut sent).unwrap();
        assert_eq!(&sent[opened.payload], PAYLOAD);
        assert_eq!((opened.next_header, opened.esn), (17, seq));
    }
}

/// A wrong ESN setting on one side is noticed by the ICV.
#[test]
fn esn_is_part_of_what_is_authenticated() {
    for (algorithm, esn, packet) in PACKETS {
        if !esn {
            let mut receiver = inbound(algorithm);
            assert!(open(&mut receiver, &mut hex(packet)).is_err());
        }
    }
}

struct Draft {
    algorithm: Algorithm,
    key_and_salt: &'static str,
    /// What was accepted before, from which the high half is inferred; none without ESN.
    floor: Option<u64>,
    packet: &'static str,
    esn: u64,
    payload: &'static str,
}

/// Packets of draft-mcgrew-gcm-test-01, whose senders chose their IVs freely.
const DRAFT: [Draft; 6] = [
    Draft {
        algorithm: Algorithm::Aes128Gcm,
        key_and_salt: "4c80cdefbb5d10da906ac73c3613a6342e443b68",
        floor: Some(0x8765_4320_ffff_fff0),
        packet: "00004321000000004956ed7e3b244cfe\
                 fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34\
                 cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce\
                 61bc17d768fd9732459018148f6cbe722fd04796562dfdb4",
        esn: 0x8765_4321_0000_0000,
        payload: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000\
                  00000000045f736970045f756470037369700963796265726369747902646b00\
                  0021000101020201",
    },
    Draft {
        algorithm: Algorithm::Aes128Gcm,
        key_and_salt: "3de09874b388e6491988d0c3607eae1f57690e43",
        floor: Some(0x1010_1010_0000_0001),
        packet: "42f67e3f101010104e280000a2fca1a3\
                 fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c357917\
                 65acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a\
                 e0d731cc978ecafaeae88f00e80d6e48",
        esn: 0x1010_1010_1010_1010,
        payload: "4500003c99c300008001cb7c40679318010101010800085c0200430061626364\
                  65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
    },
    Draft {
        algorithm: Algorithm::Aes128Gcm,
        key_and_salt: "3de09874b388e6491988d0c3607eae1f57690e43",
        floor: Some(0x1010_1010_0000_0001),
        packet: "42f67e3f101010104e280000a2fca1a3\
                 fba2ca845e5df9f0f22c3e6e86dd831e1fc65792cd1af9130e1379ed\
                 369f071f35e034be95f112e4e7d05d35",
        esn: 0x1010_1010_1010_1010,
        payload: "4500001c42a200008001441f406793b6e00000020a00f5ff01020201",
    },
    Draft {
        algorithm: Algorithm::Aes256Gcm,
        key_and_salt: "abbccddef00112233445566778899aababbccddef00112233445566778899aab\
                       11223344",
        floor: None,
        packet: "4a2cbfe3000000020102030405060708\
                 ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763\
                 748a637985771d347f0545659f14e99def842d8e\
                 b335f4eecfdbf831824b4c4915956c96",
        esn: 2,
        payload: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000\
                  7002400020bf0000020405b40101040201020201",
    },
    Draft {
        algorithm: Algorithm::Aes128Gcm,
        key_and_salt: "7d773d00c144c525ac619d18c84a3f47d9664267",
        floor: None,
        packet: "335467aeffffffff43457e9182443bc6437f866bcb3f699fe9b0822bac961c4504bef270",
        esn: 0xffff_ffff,
        payload: "01020201",
    },
    Draft {
        algorithm: Algorithm::Aes128Gmac,
        key_and_salt: "4c80cdefbb5d10da906ac73c3613a63422433c64",
        floor: None,
        packet: "0000432100000007000000000000000045000030da3a00008001df3bc0a80005\
                 c0a800010800c6cd020007006162636465666768696a6b6c6d6e6f7071727374\
                 01020201f2a9a836e155106aa8dcd618e4099aaa",
        esn: 7,
        payload: "45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364\
                  65666768696a6b6c6d6e6f707172737401020201",
    },
];

#[test]
fn packets_of_the_draft() {
    for draft in DRAFT {
        let mut packet = hex(draft.packet);
        let spi = u32::from_be_bytes(packet[..4].try_into().unwrap());
        assert_ne!(spi, SPI);
        let config = InboundConfig {
            esn: draft.floor.is_some(),
            iv_mode: IvMode::Any,
            floor: draft.floor.unwrap_or(0),
            ..InboundConfig::new(Spi::new(spi).unwrap())
        };
        let key = KeyMaterial::from_hex(backend(), draft.algorithm, draft.key_and_salt).unwrap();
        let mut receiver = Inbound::new(key, config).unwrap();
        let opened = open(&mut receiver, &mut packet).unwrap();
        assert_eq!(opened.esn, draft.esn);
        // The draft's plaintext ends in padding 1, 2, its length 2 and next header 1.
        let plain = hex(draft.payload);
        assert_eq!(packet[opened.payload], plain[..plain.len() - 4]);
        assert_eq!(opened.next_header, 1);
        assert_eq!(receiver.highest(), draft.esn);
    }
}

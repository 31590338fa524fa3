//! Bursts into tunnels: frames are taken up in runs of one tunnel and sealed together. Whatever runs
//! there are, each packet is its own frame under the next number, in order; and one that could not be
//! sealed stays here.

use pmd_tests::frames::udp4;
use pmd_tests::hand::{Exit, Hand, outbound};
use pmd_tests::isolate::{isolated, skipped};
use pmd_tests::wire::{Outer, Sa};
use vswitch::datapath::command::{Command, OutboundSetup};
use vswitch::datapath::source_port;
use vswitch_aead::{Algorithm as Cipher, Key};
use vswitch_sa::{Algorithm, KeyMaterial, Outbound, OutboundConfig, Spi};
use vswitch_vn::TunnelId;

/// Blue's tunnel to `c`, behind which tenant 4 is; tenant 2 is behind `b`.
const TO_C: TunnelId = TunnelId(1);

/// What left by the underlay: SPI, number, and what was inside.
fn left(hand: &mut Hand, sas: &[Sa]) -> Vec<(u32, u64, Vec<u8>)> {
    let mut packets = Vec::new();
    hand.look(|exit, packet| {
        assert_eq!(exit, Exit::Underlay);
        let (_, esp) = Outer::parse(packet);
        let spi = u32::from_be_bytes(esp[..4].try_into().expect("4 bytes"));
        let sa = sas.iter().find(|sa| sa.spi == spi).expect("an SA of ours");
        let (seq, payload) = sa.open(&esp);
        packets.push((spi, seq, payload));
    });
    packets
}

/// Each packet has the frame that is expected, under numbers that follow one another in each SA.
#[track_caller]
fn expect(packets: &[(u32, u64, Vec<u8>)], frames: &[(u32, Vec<u8>)]) {
    assert_eq!(packets.len(), frames.len());
    for (i, ((spi, seq, payload), (expected, frame))) in packets.iter().zip(frames).enumerate() {
        assert_eq!(spi, expected, "packet {i}");
        let before = frames[..i].iter().filter(|(spi, _)| spi == expected);
        assert_eq!(*seq, before.count() as u64 + 1, "packet {i}");
        assert!(payload.ends_with(frame), "packet {i}");
    }
}

#[test]
fn runs_of_tunnels_keep_order_and_numbers() {
    isolated(|| {
        let mut hand = Hand::start();
        let to = [2, 2, 4, 2, 4, 4, 4, 2, 2, 2, 2, 4];
        let frames: Vec<Vec<u8>> = (0..)
            .zip(to)
            .map(|(i, to)| udp4(1, to, i, 60 + 7 * usize::from(i)))
            .collect();
        hand.tenant(0, frames.iter().map(Vec::as_slice));
        let packets = left(&mut hand, &[outbound(2), outbound(3)]);
        let spi = |to| {
            if to == 2 {
                outbound(2).spi
            } else {
                outbound(3).spi
            }
        };
        // Between two destinations there is no order to keep, and for each there is.
        for peer in [2, 4] {
            let of: Vec<_> = packets
                .iter()
                .filter(|p| p.0 == spi(peer))
                .cloned()
                .collect();
            let expected = to.into_iter().zip(&frames).filter(|(to, _)| *to == peer);
            let expected: Vec<_> = expected.map(|(to, f)| (spi(to), f.clone())).collect();
            expect(&of, &expected);
        }
        assert_eq!(packets.len(), to.len());
        hand.check();
    });
}

#[test]
fn unusual_frames_keep_their_place() {
    isolated(|| {
        let mut hand = Hand::start();
        // Where a frame is cut in two buffers, 0 for not at all.
        let cuts = [0, 100, 0, 0, 120, 90, 0, 64, 0];
        let frames: Vec<Vec<u8>> = (0..9).map(|i| udp4(1, 2, i, 300)).collect();
        let pieces: Vec<Vec<&[u8]>> = frames
            .iter()
            .zip(cuts)
            .map(|(frame, cut)| match cut {
                0 => vec![&frame[..]],
                _ => vec![&frame[..cut], &frame[cut..]],
            })
            .collect();
        hand.tenant_pieces(0, &pieces);
        let packets = left(&mut hand, &[outbound(2)]);
        let expected: Vec<_> = frames
            .iter()
            .map(|f| (outbound(2).spi, f.clone()))
            .collect();
        expect(&packets, &expected);
        hand.check();
    });
}

#[test]
fn what_could_not_be_sealed_stays_here() {
    isolated(|| {
        let ours = pmd_tests::aead::backend();
        let form = |backend| {
            Key::new(backend, Cipher::Aes128Gcm, &[0; 16])
                .expect("a key")
                .form()
        };
        let Some(other) = vswitch_aead::backends().find(|b| form(*b) != form(ours)) else {
            return skipped("this CPU has backends of one form of keys only");
        };
        let mut hand = Hand::start();
        // The worker's backend refuses its jobs: the key is another's.
        let sa = outbound(3);
        let material = KeyMaterial::from_bytes(other, Algorithm::Aes128Gcm, &sa.key_and_salt);
        let spi = Spi::new(0x7003).expect("an SPI");
        let config = OutboundConfig::ephemeral(spi);
        hand.command([Command::InstallOutbound(Box::new(OutboundSetup {
            tunnel: TO_C,
            sa: Box::new(Outbound::new(material.expect("a key"), config).expect("an SA")),
            source_port: source_port(spi.get()),
            low_water: 0,
        }))]);
        let to = [2, 4, 2, 2, 4, 4, 2, 4, 2];
        let frames: Vec<Vec<u8>> = (0..).zip(to).map(|(i, to)| udp4(1, to, i, 80)).collect();
        let expected: Vec<_> = to
            .into_iter()
            .zip(&frames)
            .filter(|(to, _)| *to == 2)
            .map(|(_, f)| (outbound(2).spi, f.clone()))
            .collect();
        // All in one buffer, and all in two: either way of sealing.
        let whole: Vec<Vec<&[u8]>> = frames.iter().map(|f| vec![&f[..]]).collect();
        hand.tenant_pieces(0, &whole);
        expect(&left(&mut hand, &[outbound(2)]), &expected);
        let cut: Vec<Vec<&[u8]>> = frames.iter().map(|f| vec![&f[..70], &f[70..]]).collect();
        hand.tenant_pieces(0, &cut);
        assert_eq!(left(&mut hand, &[outbound(2)]).len(), expected.len());
        let refused = to.into_iter().filter(|to| *to == 4).count() as u64 * 2;
        let verdicts = hand.verdicts();
        assert!(verdicts.contains(&("no-sa", refused)), "{verdicts:?}");
        hand.check();
    });
}

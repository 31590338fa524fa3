//! Associations for tests, and one packet's way through them.

use vswitch_aead::{Backend, Outcome, select};
use vswitch_sa::{
    Algorithm, Inbound, InboundConfig, KeyMaterial, OpenError, Opened, Outbound, OutboundConfig,
    PREFIX_LEN, SealError, Spi, sealed_len,
};

pub(crate) const SPI: u32 = 0x1000_beef;
pub(crate) const ALL: [Algorithm; 4] = [
    Algorithm::Aes128Gcm,
    Algorithm::Aes256Gcm,
    Algorithm::Aes128Gmac,
    Algorithm::Aes256Gmac,
];

pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digit = |c: u8| (c as char).to_digit(16).unwrap() as u8;
    text.as_bytes()
        .chunks(2)
        .map(|p| digit(p[0]) << 4 | digit(p[1]))
        .collect()
}

pub(crate) fn spi() -> Spi {
    Spi::new(SPI).unwrap()
}

/// A key of 10 11 12.. or 40 41 42.., salt a0b1c2d3.
/// The preferred one, or that of `VSWITCH_TEST_AEAD`.
pub(crate) fn backend() -> &'static dyn Backend {
    let forced = std::env::var("VSWITCH_TEST_AEAD").ok();
    select(forced.as_deref().filter(|name| *name != "auto")).unwrap()
}

pub(crate) fn material(algorithm: Algorithm) -> KeyMaterial {
    let first = if algorithm.key_len() == 16 {
        0x10
    } else {
        0x40
    };
    let mut bytes: Vec<u8> = (first..).take(algorithm.key_len()).collect();
    bytes.extend([0xa0, 0xb1, 0xc2, 0xd3]);
    KeyMaterial::from_bytes(backend(), algorithm, &bytes).unwrap()
}

pub(crate) fn outbound(algorithm: Algorithm) -> Outbound {
    Outbound::new(material(algorithm), OutboundConfig::ephemeral(spi())).unwrap()
}

pub(crate) fn inbound(algorithm: Algorithm) -> Inbound {
    Inbound::new(material(algorithm), InboundConfig::new(spi())).unwrap()
}

/// One packet sealed by itself.
pub(crate) fn seal(
    sa: &mut Outbound,
    payload: &[u8],
    next_header: u8,
) -> Result<Vec<u8>, SealError> {
    let assigned = sa.assign(payload.len())?;
    let mut packet = vec![0xee; sealed_len(payload.len())];
    packet[PREFIX_LEN..][..payload.len()].copy_from_slice(payload);
    let mut job = sa.seal_job(assigned, &mut packet, next_header, |job| job)?;
    backend().seal(core::slice::from_mut(&mut job));
    assert_eq!(job.outcome(), Outcome::Sealed);
    Ok(packet)
}

/// One packet opened in place by itself.
pub(crate) fn open(sa: &mut Inbound, packet: &mut [u8]) -> Result<Opened, OpenError> {
    let candidate = sa.precheck(packet)?;
    let mut job = sa.open_job(&candidate, packet, |job| job)?;
    backend().open(core::slice::from_mut(&mut job));
    let authenticated = candidate.verdict(&job)?;
    sa.accept(authenticated, packet)
}

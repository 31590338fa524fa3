//! State directories as an earlier life of the switch left them, so that a test need not send
//! four thousand million packets to see what comes after.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use vswitch_sa::reservation::{Direction, Record};
use vswitch_sa::{Algorithm, KeyMaterial};

use crate::wire::Sa;

/// Makes `dir` such that the next packet under the key has the sequence number `next`.
pub fn goes_on_at(dir: &Path, sa: &Sa, next: u64) {
    let algorithm = match sa.algorithm {
        crate::wire::Algorithm::Gcm128 => Algorithm::Aes128Gcm,
        crate::wire::Algorithm::Gcm256 => Algorithm::Aes256Gcm,
        crate::wire::Algorithm::Gmac128 => Algorithm::Aes128Gmac,
        crate::wire::Algorithm::Gmac256 => Algorithm::Aes256Gmac,
    };
    let key = KeyMaterial::from_bytes(vswitch_aead::portable(), algorithm, &sa.key_and_salt)
        .expect("a key");
    let record = Record {
        direction: Direction::Outbound,
        spi: sa.spi.try_into().expect("an SPI"),
        key: key.fingerprint(),
        sequence: next,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .expect("state directory");
    let file = Record::file_name(Direction::Outbound, record.key);
    fs::write(dir.join(file), record.encode()).expect("record");
}

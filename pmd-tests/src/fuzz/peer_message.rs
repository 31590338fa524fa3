//! What another edge says: any bytes are no message, or the one canonical encoding of one.

use vswitch_control::message::peer;

use super::Eat;

/// Nothing to make ready.
#[must_use]
pub fn start() -> Eat {
    Box::new(|bytes| {
        if let Err(wrong) = peer::check_parsers(bytes) {
            panic!("{wrong}");
        }
    })
}

/// One message of each kind.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    peer::samples()
}

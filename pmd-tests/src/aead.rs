//! The AES-GCM backend that the tests run with: the environment variable `VSWITCH_TEST_AEAD`
//! names one as `workers.aead` does, so that all of them can be run under each.

use vswitch_aead::Backend;

/// What to write as `workers.aead`.
pub fn name() -> String {
    std::env::var("VSWITCH_TEST_AEAD").unwrap_or_else(|_| "auto".to_owned())
}

/// The backend itself.
pub fn backend() -> &'static dyn Backend {
    let name = name();
    let forced = (name != "auto").then_some(name.as_str());
    vswitch_aead::select(forced).expect("VSWITCH_TEST_AEAD")
}

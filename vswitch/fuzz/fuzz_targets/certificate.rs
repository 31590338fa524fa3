//! See `pmd_tests::fuzz::certificate`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use pmd_tests::fuzz::{Eat, certificate};

thread_local! {
    static TARGET: RefCell<Eat> = RefCell::new(certificate::start());
}

fuzz_target!(|bytes: &[u8]| TARGET.with_borrow_mut(|eat| eat(bytes)));

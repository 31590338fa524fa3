//! See `pmd_tests::fuzz::ima_message`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use pmd_tests::fuzz::{Eat, ima_message};

thread_local! {
    static TARGET: RefCell<Eat> = RefCell::new(ima_message::start());
}

fuzz_target!(|bytes: &[u8]| TARGET.with_borrow_mut(|eat| eat(bytes)));

//! Model checks of what threads share, by loom: the switch's own source is compiled over loom's
//! primitives.
#![allow(missing_docs, dead_code, unreachable_pub)]

mod quiescence;
mod vrings;

/// What the checked source expects in its crate.
mod dpdk {
    pub(crate) mod sync {
        pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
        pub(crate) use loom::sync::{Arc, Mutex};

        pub(crate) struct Wait;

        impl Wait {
            pub(crate) fn new() -> Self {
                Wait
            }

            pub(crate) fn step(&mut self, _: &str) {
                loom::thread::yield_now();
            }
        }
    }
}

//! A wall clock of its own for a process, by libfaketime: what it asks the C library for, and nobody
//! else. The monotonic clock stays as it is. (CLOCK_REALTIME has no namespace.)

use std::fs;

use crate::lab::DIR;

/// Where Debian's package `libfaketime` has it, by architecture.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
];

/// The wall clock of some processes.
#[derive(Debug)]
pub struct WallClock {
    file: String,
    library: &'static str,
}

impl WallClock {
    /// One that is right, named so.
    pub fn new(name: &str) -> WallClock {
        let library = LIBRARIES
            .into_iter()
            .find(|file| fs::exists(file).is_ok_and(|is| is));
        let clock = WallClock {
            file: format!("{DIR}/clock-{name}"),
            library: library.expect("libfaketime (Debian's package)"),
        };
        clock.set(0);
        clock
    }

    /// Steps it to so many seconds ahead of the machine's, or behind it. Seen within a second.
    pub fn set(&self, seconds: i64) {
        // Whole or not at all: it may be read at any time.
        let new = format!("{}.new", self.file);
        fs::write(&new, format!("{seconds:+}\n")).expect("a file");
        fs::rename(new, &self.file).expect("a file");
    }

    /// The environment of a process that has it.
    pub fn environment(&self) -> Vec<(&str, &str)> {
        vec![
            ("LD_PRELOAD", self.library),
            ("FAKETIME_TIMESTAMP_FILE", &self.file),
            ("FAKETIME_CACHE_DURATION", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_RESET", "1"),
        ]
    }
}

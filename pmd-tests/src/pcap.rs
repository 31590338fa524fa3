//! Captures in the classic pcap format, as tshark and DPDK's pcap driver read and write them.

use std::fs;
use std::path::Path;

/// Times in microseconds; little endian.
const MAGIC: u32 = 0xa1b2_c3d4;
/// Times in nanoseconds, which DPDK writes.
const NANO: u32 = 0xa1b2_3c4d;
/// Ethernet.
const LINK: u32 = 1;

/// What a capture begins with.
pub fn head() -> Vec<u8> {
    let header = [MAGIC, 4 << 16 | 2, 0, 0, 65_535, LINK];
    header.map(u32::to_le_bytes).concat()
}

/// A frame of a capture, of its microsecond `at`.
pub fn record(at: u32, frame: &[u8]) -> Vec<u8> {
    let len = frame.len() as u32;
    let header = [0, at, len, len].map(u32::to_le_bytes).concat();
    [&header, frame].concat()
}

/// Writes a capture of these frames.
pub fn write(path: &Path, frames: &[Vec<u8>]) {
    let frames = (0..).zip(frames).map(|(i, frame)| record(i, frame));
    let file: Vec<u8> = [head()].into_iter().chain(frames).flatten().collect();
    fs::write(path, file).expect("a capture");
}

/// Reads the frames of a capture.
pub fn read(path: &Path) -> Vec<Vec<u8>> {
    let file = fs::read(path).expect("a capture");
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().expect("4 bytes"));
    assert!([MAGIC, NANO].contains(&word(0)) && word(20) == LINK);
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let len = word(at + 8) as usize;
        assert_eq!(word(at + 12) as usize, len, "cut short");
        frames.push(file[at + 16..at + 16 + len].to_vec());
        at += 16 + len;
    }
    frames
}

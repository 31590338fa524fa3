//! Frames on a stream: a length of four bytes, big-endian, and as many bytes of body. The first frame of
//! each side is empty and says that it has accepted the session; no other is.

use bytes::{Buf, Bytes, BytesMut};

/// Longest body, in bytes.
pub const MAX_FRAME: usize = 64 * 1024;

/// Bytes of the length.
pub(super) const HEADER: usize = 4;

/// The first frame.
pub(super) const OPENING: [u8; HEADER] = [0; HEADER];

/// The peer broke the framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes; 1 to {MAX_FRAME} are allowed")]
pub struct BadFrame(u32);

/// Puts frames together again. Holds at most one that is not whole.
#[derive(Debug, Default)]
pub struct Assembler {
    buffer: BytesMut,
}

impl Assembler {
    /// The next frame, if it is whole.
    ///
    /// # Errors
    /// What comes next is no frame; nothing behind it is one either.
    pub fn frame(&mut self) -> Result<Option<Bytes>, BadFrame> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header);
        let size = length as usize;
        if size == 0 || size > MAX_FRAME {
            return Err(BadFrame(length));
        }
        if rest.len() < size {
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some(self.buffer.split_to(size).freeze()))
    }

    /// Takes more. Nothing is made room for that has not arrived.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// How many bytes the frame begun still lacks; at least one. Reading no more than that keeps the
    /// rest where the peer's flow control counts it.
    #[must_use]
    pub fn missing(&self) -> usize {
        let whole = self
            .buffer
            .first_chunk::<HEADER>()
            .map_or(HEADER, |header| {
                HEADER + (u32::from_be_bytes(*header) as usize).min(MAX_FRAME)
            });
        whole.saturating_sub(self.buffer.len()).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [vec![1], vec![2; 300], vec![3; MAX_FRAME]];
        let mut wire = Vec::new();
        for frame in &frames {
            wire.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
            wire.extend_from_slice(frame);
        }
        for step in [1, 3, 1000, wire.len()] {
            let mut assembler = Assembler::default();
            let mut out = Vec::new();
            for chunk in wire.chunks(step) {
                assembler.push(chunk);
                while let Some(frame) = assembler.frame().unwrap() {
                    out.push(frame.to_vec());
                }
            }
            assert_eq!(out, frames, "{step}");
        }
    }

    #[test]
    fn read_no_further_than_the_frame() {
        let mut assembler = Assembler::default();
        assert_eq!(assembler.missing(), HEADER);
        assembler.push(&[0, 0]);
        assert_eq!(assembler.missing(), 2);
        assembler.push(&[0, 5]);
        assert_eq!(assembler.missing(), 5);
        assembler.push(&[1, 2, 3]);
        assert_eq!(assembler.missing(), 2);
    }

    #[test]
    fn lengths_out_of_range_are_refused_before_anything_is_kept() {
        for length in [0, MAX_FRAME as u32 + 1, u32::MAX] {
            let mut assembler = Assembler::default();
            assembler.push(&length.to_be_bytes());
            assert_eq!(assembler.frame(), Err(BadFrame(length)));
        }
    }
}

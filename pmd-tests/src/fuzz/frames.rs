//! A session's stream: however it is cut, the same frames come out of it.

use vswitch_control::session::{Assembler, BadFrame, MAX_FRAME};

use super::Eat;

/// What comes out if the stream arrives in pieces of these lengths, over and over.
fn cut(mut stream: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<BadFrame>) {
    let (mut assembler, mut frames) = (Assembler::default(), Vec::new());
    let mut pieces = pieces.iter().cycle();
    loop {
        match assembler.frame() {
            Ok(Some(frame)) => {
                assert!((1..=MAX_FRAME).contains(&frame.len()));
                frames.push(frame.to_vec());
                continue;
            }
            Ok(None) => {}
            Err(bad) => return (frames, Some(bad)),
        }
        if stream.is_empty() {
            return (frames, None);
        }
        // As a session reads: no further than to the end of the frame.
        let missing = assembler.missing();
        assert!((1..=MAX_FRAME + 4).contains(&missing));
        let piece = pieces.next().copied().unwrap_or(1);
        let (now, rest) = stream.split_at(piece.clamp(1, missing).min(stream.len()));
        assembler.push(now);
        stream = rest;
    }
}

/// Nothing to make ready. The first eight bytes say how the rest is cut.
#[must_use]
pub fn start() -> Eat {
    Box::new(|bytes| {
        let (how, stream) = bytes.split_at(bytes.len().min(8));
        let pieces: Vec<usize> = how.iter().map(|piece| usize::from(*piece)).collect();
        let whole = cut(stream, &[usize::MAX]);
        assert_eq!(whole, cut(stream, &pieces), "cut by {pieces:?}");
        // All at once, as nobody reads it, comes to the same.
        let mut assembler = Assembler::default();
        assembler.push(stream);
        let mut frames = Vec::new();
        let bad = loop {
            match assembler.frame() {
                Ok(Some(frame)) => frames.push(frame.to_vec()),
                Ok(None) => break None,
                Err(bad) => break Some(bad),
            }
        };
        assert_eq!(whole, (frames, bad));
        let taken: usize = whole.0.iter().map(|frame| 4 + frame.len()).sum();
        assert!(taken <= stream.len());
    })
}

/// Frames, whole and not, and lengths that are none.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let frame = |length: u32, body: usize| {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.resize(4 + body, 7);
        bytes
    };
    let streams = [
        [frame(1, 1), frame(300, 300)].concat(),
        [frame(5, 5), frame(9, 3)].concat(),
        [frame(2, 2), frame(0, 0)].concat(),
        frame(65_536, 2000),
        frame(65_537, 10),
        frame(u32::MAX, 0),
        vec![0, 0],
    ];
    streams
        .into_iter()
        .map(|stream| [&[1, 3, 200, 4, 2, 0, 9, 255], stream.as_slice()].concat())
        .collect()
}

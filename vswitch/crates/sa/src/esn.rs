//! The high half of a sequence number that is not sent (RFC 4303 section 2.2.1).

/// The 64-bit number nearest to the window whose low half is `seq` (RFC 4303 appendix
/// A2.2); none where it would lie outside 64 bits.
pub(crate) fn infer_esn(highest: u64, width: u64, seq: u32) -> Option<u64> {
    let (top_hi, top_lo) = (highest >> 32, highest as u32);
    // At most 2^16, so it fits.
    let bottom = top_lo.wrapping_sub(width.saturating_sub(1) as u32);
    let hi = if u64::from(top_lo) >= width.saturating_sub(1) {
        // The window lies within one subspace of 2^32: what is below it is in the next.
        if seq >= bottom { top_hi } else { top_hi + 1 }
    } else if seq >= bottom && top_hi > 0 {
        // It spans two, and this is in its lower part. (In the very first subspace there
        // is no lower part.)
        top_hi - 1
    } else {
        top_hi
    };
    (hi <= u64::from(u32::MAX)).then_some(hi << 32 | u64::from(seq))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inference_within_one_subspace() {
        let high = 5 << 32 | 10_000;
        assert_eq!(infer_esn(high, 1024, 10_001), Some(5 << 32 | 10_001));
        assert_eq!(infer_esn(high, 1024, 10_000 - 1023), Some(5 << 32 | 8977));
        assert_eq!(infer_esn(high, 1024, u32::MAX), Some(5 << 32 | 0xffff_ffff));
        // Just below the window: the next subspace.
        assert_eq!(infer_esn(high, 1024, 8976), Some(6 << 32 | 8976));
        assert_eq!(infer_esn(u64::MAX, 1024, 5), None);
    }

    #[test]
    fn inference_across_subspaces() {
        let high = 5 << 32 | 100;
        assert_eq!(infer_esn(high, 1024, 101), Some(5 << 32 | 101));
        assert_eq!(infer_esn(high, 1024, 0), Some(5 << 32));
        assert_eq!(infer_esn(high, 1024, u32::MAX), Some(4 << 32 | 0xffff_ffff));
        let bottom = 100u32.wrapping_sub(1023);
        let at_bottom = (5 << 32 | 100) - 1023;
        assert_eq!(infer_esn(high, 1024, bottom), Some(at_bottom));
        assert_eq!(
            infer_esn(high, 1024, bottom - 1),
            Some(at_bottom - 1 + (1 << 32))
        );
    }

    #[test]
    fn inference_at_the_start() {
        assert_eq!(infer_esn(0, 1024, 1), Some(1));
        assert_eq!(infer_esn(0, 1024, u32::MAX), Some(0xffff_ffff));
        assert_eq!(infer_esn(1022, 1024, u32::MAX), Some(0xffff_ffff));
        assert_eq!(infer_esn(0xffff_ffff, 1024, 0), Some(1 << 32));
    }
}

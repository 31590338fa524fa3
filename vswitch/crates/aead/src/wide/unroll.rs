//! Loops that must be unrolled for arrays of vectors to be registers: the optimizer thinks the
//! bodies too large.

/// The body for each constant `$i` below `$n`, which is at most 8 (or at most 4, if it says so).
macro_rules! unrolled {
    ($i:ident < $n:expr, at most 4; $body:block) => {
        unrolled!(@ $i, $n, $body, 0 1 2 3)
    };
    ($i:ident < $n:expr; $body:block) => {
        unrolled!(@ $i, $n, $body, 0 1 2 3 4 5 6 7)
    };
    (@ $i:ident, $n:expr, $body:block, $($k:literal)*) => {
        $(if $k < $n {
            const $i: usize = $k;
            $body
        })*
    };
}

pub(super) use unrolled;

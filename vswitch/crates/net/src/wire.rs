//! Header structs in and out of byte slices, bounds-checked.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The header at `offset` of `bytes`, in place; `None` where it does not fit.
#[inline(always)]
pub fn header<T>(bytes: &[u8], offset: usize) -> Option<&T>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    T::ref_from_prefix(bytes.get(offset..)?)
        .ok()
        .map(|(t, _)| t)
}

/// The header at `offset` of `bytes`, to be changed in place; `None` where it does not fit.
#[inline(always)]
pub fn header_mut<T>(bytes: &mut [u8], offset: usize) -> Option<&mut T>
where
    T: FromBytes + IntoBytes + KnownLayout + Immutable + Unaligned,
{
    T::mut_from_prefix(bytes.get_mut(offset..)?)
        .ok()
        .map(|(t, _)| t)
}

/// Writes `value` at `offset` of `out` and returns the offset behind it; `None`, and nothing
/// written, where it does not fit.
#[inline(always)]
pub fn put<T>(out: &mut [u8], offset: usize, value: &T) -> Option<usize>
where
    T: IntoBytes + Immutable + ?Sized,
{
    let bytes = value.as_bytes();
    let end = offset.checked_add(bytes.len())?;
    out.get_mut(offset..end)?.copy_from_slice(bytes);
    Some(end)
}

/// A header lies in the bytes at hand, or why not: `None` is fine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Missing {
    /// The packet itself ends before the header does.
    Packet,
    /// The packet is long enough; the first segment is not.
    Head,
}

/// As [`header`], in a packet that ends at `end` and of which `head` holds the first bytes.
#[inline(always)]
pub(crate) fn header_within<T>(head: &[u8], offset: usize, end: usize) -> Result<&T, Missing>
where
    T: FromBytes + KnownLayout + Immutable + Unaligned,
{
    if offset.saturating_add(size_of::<T>()) > end {
        return Err(Missing::Packet);
    }
    header(head, offset).ok_or(Missing::Head)
}

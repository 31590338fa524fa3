//! One packet's worth of work: what is authenticated, what is enciphered, and what came
//! of it.

use crate::key::Key;

/// Length of a tag in bytes.
pub const TAG_LEN: usize = 16;

/// Bytes of associated data that a job holds itself: SPI, 64-bit sequence number and IV
/// of ESP with AES-GMAC (RFC 4543 section 3.3), the longest header there is.
pub const AAD_INLINE: usize = 20;

/// Longest data of one job in bytes (SP 800-38D section 5.2.1.1: 2^39 - 256 bits).
pub const MAX_DATA: u64 = (1 << 36) - 32;

/// Associated data: a short head held by value, then bytes borrowed from elsewhere.
// Its first 16 bytes are a block as kernels read it: whole, aligned, padded with zeros.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Aad<'a> {
    head: [u8; AAD_INLINE],
    head_len: u8,
    tail: Tail<'a>,
}

#[derive(Debug)]
pub(crate) enum Tail<'a> {
    None,
    Contiguous(&'a [u8]),
    // Shared access to mutable slices: the form in which a chain of buffers arrives.
    Segments(&'a [&'a mut [u8]]),
    // No tail: the head has a hash of all of it, which is so many bits long.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    Folded(u64),
}

impl<'a> Aad<'a> {
    /// Only a head; `N` is at most [`AAD_INLINE`].
    #[must_use]
    #[inline(always)]
    pub fn new<const N: usize>(head: [u8; N]) -> Self {
        Self::build(head, Tail::None)
    }

    /// A head and a borrowed tail (AES-GMAC over a contiguous packet).
    #[must_use]
    #[inline]
    pub fn with_tail<const N: usize>(head: [u8; N], tail: &'a [u8]) -> Self {
        Self::build(head, Tail::Contiguous(tail))
    }

    /// A head and a tail in several pieces (AES-GMAC over a chain of buffers).
    #[must_use]
    pub fn with_segments<const N: usize>(head: [u8; N], tail: &'a [&'a mut [u8]]) -> Self {
        Self::build(head, Tail::Segments(tail))
    }

    /// Borrowed bytes only.
    #[must_use]
    pub fn borrowed(aad: &'a [u8]) -> Self {
        Self::build([], Tail::Contiguous(aad))
    }

    #[inline(always)]
    fn build<const N: usize>(bytes: [u8; N], tail: Tail<'a>) -> Self {
        const { assert!(N <= AAD_INLINE) };
        let mut head = [0; AAD_INLINE];
        head[..N].copy_from_slice(&bytes);
        Self {
            head,
            head_len: N as u8,
            tail,
        }
    }

    /// A block that leads to the same hash as associated data of so many bits.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    pub(crate) fn folded(block: [u8; 16], bits: u64) -> Self {
        Self::build(block, Tail::Folded(bits))
    }

    /// Whether [`Self::block`] has all of it.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    #[inline(always)]
    pub(crate) fn is_block(&self) -> bool {
        match self.tail {
            Tail::None => self.head_len <= 16,
            Tail::Contiguous(tail) => tail.is_empty() && self.head_len <= 16,
            Tail::Segments(_) => false,
            Tail::Folded(_) => true,
        }
    }

    /// The first 16 bytes of the head, padded with zeros.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    #[inline]
    pub(crate) fn block(&self) -> &[u8; 16] {
        // What is behind the head's length is zero. A head has 16 bytes.
        self.head.first_chunk().unwrap_or(&[0; 16])
    }

    /// Length in bits.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    #[inline(always)]
    pub(crate) fn bits(&self) -> u64 {
        match self.tail {
            Tail::None => u64::from(self.head_len) * 8,
            Tail::Folded(bits) => bits,
            _ => self.len() as u64 * 8,
        }
    }

    /// Its pieces, in order.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let (one, many) = match self.tail {
            Tail::Contiguous(t) => (t, [].as_slice()),
            Tail::Segments(s) => ([].as_slice(), s),
            Tail::None | Tail::Folded(_) => ([].as_slice(), [].as_slice()),
        };
        [self.head(), one]
            .into_iter()
            .chain(many.iter().map(|t| &**t))
    }

    /// The bytes held by value.
    pub(crate) fn head(&self) -> &[u8] {
        self.head
            .get(..usize::from(self.head_len))
            .unwrap_or(&self.head)
    }

    /// The bytes borrowed.
    pub(crate) fn tail(&self) -> &Tail<'a> {
        &self.tail
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.head_len)
            + match self.tail {
                Tail::Contiguous(t) => t.len(),
                Tail::Segments(s) => s.iter().map(|t| t.len()).sum(),
                Tail::None | Tail::Folded(_) => 0,
            }
    }

    /// Whether there is no associated data at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What is enciphered or deciphered in place.
#[derive(Debug)]
pub enum Data<'a> {
    /// One slice: the fast way. Empty for AES-GMAC.
    Contiguous(&'a mut [u8]),
    /// Several slices read as one, for chained buffers: the slow way. A backend may gather
    /// them into scratch memory, process that and scatter the result.
    Segments(&'a mut [&'a mut [u8]]),
}

impl Data<'_> {
    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Contiguous(d) => d.len(),
            Self::Segments(s) => s.iter().map(|d| d.len()).sum(),
        }
    }

    /// Whether there is nothing to encipher.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffers are the caller's, so no optimizer takes these writes for useless; and they
    /// are many at a time, for whoever sends forged packets.
    fn wipe(&mut self) {
        match self {
            Self::Contiguous(d) => d.fill(0),
            Self::Segments(s) => s.iter_mut().for_each(|d| d.fill(0)),
        }
    }
}

/// What came of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// No backend has worked on it yet.
    Pending,
    /// Data enciphered, tag written.
    Sealed,
    /// Tag verified, data deciphered.
    Authentic,
    /// Not authentic, too long, a seal job given to open (or the reverse), or a key that was
    /// expanded for backends of another [`Form`](crate::Form). The data is wiped.
    Failed,
}

#[derive(Debug)]
pub(crate) enum Tag<'a> {
    Write(&'a mut [u8; TAG_LEN]),
    // By value, so that a tag cut in two by a segment boundary costs its caller nothing.
    Compare([u8; TAG_LEN]),
}

/// Where a job may go without preparation: its data lies in one piece that is not too long, and
/// all of its associated data is in one block.
#[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Seal,
    Open,
    /// It needs preparation, to seal or to open.
    Other,
}

/// One message to seal or to open. Associated data is never changed, whatever the outcome.
// In the order and alignment in which kernels read it: no block crosses a cache line.
#[derive(Debug)]
#[repr(C, align(16))]
pub struct Job<'a> {
    /// The nonce and 32 bits of counter, zero here: as it is enciphered.
    pub(crate) counter: [u8; 16],
    /// Bits of data and of associated data: the last block that is hashed, bytes reversed.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    pub(crate) lengths: [u64; 2],
    pub(crate) aad: Aad<'a>,
    pub(crate) data: Data<'a>,
    pub(crate) tag: Tag<'a>,
    pub(crate) key: &'a Key,
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    pub(crate) way: Way,
    pub(crate) outcome: Outcome,
}

impl<'a> Job<'a> {
    /// Work for [`Backend::seal`](crate::Backend::seal); the tag is written to `tag`.
    /// The same `nonce` must never be given twice with the same key.
    #[must_use]
    #[inline(always)]
    pub fn seal(
        key: &'a Key,
        nonce: [u8; 12],
        aad: Aad<'a>,
        data: Data<'a>,
        tag: &'a mut [u8; TAG_LEN],
    ) -> Self {
        Self::build(key, nonce, aad, data, Tag::Write(tag))
    }

    /// Work for [`Backend::open`](crate::Backend::open); `tag` is compared in constant time.
    #[must_use]
    #[inline(always)]
    pub fn open(
        key: &'a Key,
        nonce: [u8; 12],
        aad: Aad<'a>,
        data: Data<'a>,
        tag: [u8; TAG_LEN],
    ) -> Self {
        Self::build(key, nonce, aad, data, Tag::Compare(tag))
    }

    #[inline(always)]
    fn build(key: &'a Key, nonce: [u8; 12], aad: Aad<'a>, data: Data<'a>, tag: Tag<'a>) -> Self {
        let mut counter = [0; 16];
        counter[..12].copy_from_slice(&nonce);
        Self::with_counter(key, counter, aad, data, tag)
    }

    #[inline(always)]
    pub(crate) fn with_counter(
        key: &'a Key,
        counter: [u8; 16],
        aad: Aad<'a>,
        data: Data<'a>,
        tag: Tag<'a>,
    ) -> Self {
        let (len, whole) = match &data {
            Data::Contiguous(data) => (data.len() as u64, data.len() as u64 <= MAX_DATA),
            // Reckoned by whoever prepares it.
            Data::Segments(_) => (0, false),
        };
        let way = match (whole && aad.is_block(), &tag) {
            (false, _) => Way::Other,
            (true, Tag::Write(_)) => Way::Seal,
            (true, Tag::Compare(_)) => Way::Open,
        };
        // Associated data in several pieces is reckoned by whoever prepares it, too.
        let aad_bits = if whole && aad.is_block() {
            aad.bits()
        } else {
            0
        };
        Self {
            counter,
            lengths: [len.wrapping_mul(8), aad_bits],
            aad,
            data,
            tag,
            key,
            way,
            outcome: Outcome::Pending,
        }
    }

    /// What came of it.
    #[must_use]
    #[inline]
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// The nonce it was made with.
    #[must_use]
    pub fn nonce(&self) -> [u8; 12] {
        let [nonce @ .., _, _, _, _] = self.counter;
        nonce
    }

    /// The part of its associated data that it holds by value.
    #[must_use]
    pub fn aad_head(&self) -> &[u8] {
        self.aad.head()
    }

    /// Whether it may be worked on so that it ends as `success`; marks it failed if not.
    #[inline]
    pub(crate) fn admit(&mut self, success: Outcome) -> bool {
        let right_way = matches!(
            (&self.tag, success),
            (Tag::Write(_), Outcome::Sealed) | (Tag::Compare(_), Outcome::Authentic)
        );
        // A job is worked on once: sealing twice would encipher the ciphertext under the
        // same nonce, which is plaintext XOR plaintext to whoever saw both.
        let admitted = right_way && self.outcome == Outcome::Pending;
        if !admitted {
            self.fail();
        }
        admitted
    }

    /// The length of its data, if it goes that way and has not yet gone.
    #[cfg_attr(any(miri, not(target_arch = "x86_64")), allow(dead_code))]
    #[inline(always)]
    pub(crate) fn straight(&self, way: Way) -> Option<usize> {
        let ready = self.way == way && self.outcome == Outcome::Pending;
        ready.then_some((self.lengths[0] / 8) as usize)
    }

    /// Marks success.
    pub(crate) fn succeed(&mut self, outcome: Outcome) {
        self.outcome = outcome;
    }

    /// Marks failure and wipes the data.
    pub(crate) fn fail(&mut self) {
        self.data.wipe();
        self.outcome = Outcome::Failed;
    }
}

//! The receiving side: what is checked before decryption, the job that opens a packet, and
//! what is checked after.

use core::fmt;
use core::ops::Range;

use vswitch_aead::{Data, Job, Key, Outcome};
use zeroize::Zeroizing;

use crate::Counters;
use crate::error::{ConfigError, OpenError};
use crate::esn::infer_esn;
use crate::esp::{
    ICV_LEN, MAX_PACKET_LEN, MIN_PACKET_LEN, PREFIX_LEN, Prefix, Sequence, TRAILER_LEN, nonce,
    parse_short_trailer, parse_trailer,
};
use crate::fingerprint::Fingerprint;
use crate::keys::{Algorithm, KeyMaterial, SALT_LEN};
use crate::replay::ReplayWindow;
use crate::spi::Spi;

/// What the explicit IV of a packet must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IvMode {
    /// The 64-bit sequence number itself: nothing is left for a sender to choose, and the
    /// high half need not be guessed.
    EqualsEsn,
    /// Anything, for a foreign sender. The high half of the sequence number is inferred
    /// (RFC 4303 appendix A2.2).
    Any,
}

/// How an inbound association starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboundConfig {
    /// Its SPI.
    pub spi: Spi,
    /// 64-bit sequence numbers (RFC 4303 section 2.2.1).
    pub esn: bool,
    /// Rule for the IV.
    pub iv_mode: IvMode,
    /// Replay window in packets; see [`ReplayWindow::new`].
    pub window: usize,
    /// Every number up to here counts as received; 0 for a new key.
    pub floor: u64,
}

impl InboundConfig {
    /// A new key, extended sequence numbers, a sender that follows our rule for the IV.
    #[must_use]
    pub fn new(spi: Spi) -> Self {
        Self {
            spi,
            esn: true,
            iv_mode: IvMode::EqualsEsn,
            window: 4096,
            floor: 0,
        }
    }
}

/// A packet that may be opened: well formed, and not known to be replayed.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Candidate {
    esn: u64,
    iv: u64,
    spi: Spi,
    /// At most [`MAX_PACKET_LEN`].
    len: u16,
}

impl Candidate {
    /// The 64-bit sequence number, not yet authenticated.
    #[must_use]
    pub fn esn(&self) -> u64 {
        self.esn
    }

    /// Looks at what came of the packet's job.
    ///
    /// # Errors
    /// When the job did not end authentic, or is not the one made from this candidate.
    #[inline(always)]
    pub fn verdict(self, job: &Job<'_>) -> Result<Authenticated, OpenError> {
        let same = job.nonce().last_chunk::<8>() == Some(&self.iv.to_be_bytes())
            && job.aad_head().first_chunk::<4>() == Some(&self.spi.get().to_be_bytes());
        if same && job.outcome() == Outcome::Authentic {
            Ok(Authenticated(self))
        } else {
            Err(OpenError::Forged)
        }
    }
}

/// A packet whose ICV was verified. Only [`Candidate::verdict`] makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "the replay window does not know the packet yet"]
pub struct Authenticated(Candidate);

/// An accepted packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Where the payload lies, in bytes from the start of the ESP header.
    pub payload: Range<usize>,
    /// IP protocol number of the payload.
    pub next_header: u8,
    /// The packet's 64-bit sequence number.
    pub esn: u64,
}

/// A receiving association, owned by one worker.
pub struct Inbound {
    spi: Spi,
    algorithm: Algorithm,
    key: Key,
    salt: Zeroizing<[u8; SALT_LEN]>,
    esn: bool,
    /// Enciphered, with extended sequence numbers: what nearly all associations do.
    usual: bool,
    iv_mode: IvMode,
    window: ReplayWindow,
    counters: Counters,
}

impl Inbound {
    /// Bytes of its window, which are not in itself. Its key is counted elsewhere.
    pub fn heap_bytes(&self) -> usize {
        self.window.heap_bytes()
    }

    /// An association that consumes its key material.
    ///
    /// # Errors
    /// When the replay window cannot be had as wide as asked.
    pub fn new(material: KeyMaterial, config: InboundConfig) -> Result<Self, ConfigError> {
        let mut window = ReplayWindow::new(config.window)?;
        window.restore_floor(config.floor);
        let (algorithm, key, salt) = material.into_parts();
        Ok(Self {
            spi: config.spi,
            algorithm,
            key,
            salt,
            esn: config.esn,
            usual: config.esn && algorithm.is_confidential(),
            iv_mode: config.iv_mode,
            window,
            counters: Counters::default(),
        })
    }

    /// Checks all that can be checked without the key. `packet` starts at the ESP header
    /// and ends with the ICV.
    ///
    /// # Errors
    /// When the packet is malformed, its IV breaks the rule, or its number is replayed.
    #[inline(always)]
    pub fn precheck(&self, packet: &[u8]) -> Result<Candidate, OpenError> {
        self.precheck_segments(packet, packet.len())
    }

    /// [`Self::precheck`] for a packet of `len` bytes in several segments, of which `first`
    /// is the first.
    ///
    /// # Errors
    /// As for [`Self::precheck`], and when ESP header and IV are not within `first`.
    #[inline(always)]
    pub fn precheck_segments(&self, first: &[u8], len: usize) -> Result<Candidate, OpenError> {
        if len < MIN_PACKET_LEN {
            return Err(OpenError::Truncated);
        }
        if len > MAX_PACKET_LEN {
            return Err(OpenError::Layout);
        }
        if !len.is_multiple_of(4) {
            return Err(OpenError::Misaligned);
        }
        let prefix = first.first_chunk::<PREFIX_LEN>().ok_or(OpenError::Layout)?;
        let prefix = Prefix::read(prefix);
        let (spi, seq, iv) = (prefix.spi.get(), prefix.seq.get(), prefix.iv.get());
        if spi != self.spi.get() {
            return Err(OpenError::WrongSpi);
        }
        let esn = match (self.iv_mode, self.esn) {
            (IvMode::EqualsEsn, true) if iv as u32 == seq => iv,
            (IvMode::EqualsEsn, false) if iv == u64::from(seq) => iv,
            (IvMode::EqualsEsn, _) => return Err(OpenError::IvMismatch),
            (IvMode::Any, true) => infer_esn(self.window.highest(), self.window.width(), seq)
                .ok_or(OpenError::TooOld)?,
            (IvMode::Any, false) => u64::from(seq),
        };
        self.window.check(esn)?;
        Ok(Candidate {
            esn,
            iv,
            spi: self.spi,
            len: len as u16,
        })
    }

    /// [`Self::precheck`] and [`Self::open_job`] of a packet in one piece.
    ///
    /// # Errors
    /// As for [`Self::precheck`].
    #[inline(always)]
    pub fn check_and_open<'a, R>(
        &'a self,
        packet: &'a mut [u8],
        take: impl FnOnce(Job<'a>) -> R,
    ) -> Result<(Candidate, R), OpenError> {
        let candidate = self.precheck(packet)?;
        let taken = self.open_job(&candidate, packet, take)?;
        Ok((candidate, taken))
    }

    /// Gives the job that opens a packet in place to `take`, which is inlined: jobs are large, and
    /// are to be made where they stay. If the job fails, an enciphered payload is wiped;
    /// under AES-GMAC the packet, which was in the clear all along, stays as it came and
    /// must be dropped.
    ///
    /// # Errors
    /// When `packet` is not the one that was checked.
    #[inline(always)]
    pub fn open_job<'a, R>(
        &'a self,
        candidate: &Candidate,
        packet: &'a mut [u8],
        take: impl FnOnce(Job<'a>) -> R,
    ) -> Result<R, OpenError> {
        self.same(candidate, packet.len())?;
        let (_, rest) = packet
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(OpenError::Truncated)?;
        let (data, icv) = rest
            .split_last_chunk_mut::<ICV_LEN>()
            .ok_or(OpenError::Truncated)?;
        if self.usual {
            let aad = self.sequence(candidate).extended();
            let nonce = nonce(*self.salt, candidate.iv);
            let data = Data::Contiguous(data);
            return Ok(take(Job::open(&self.key, nonce, aad, data, *icv)));
        }
        Ok(take(self.unusual_job(
            candidate,
            Data::Contiguous(data),
            *icv,
        )))
    }

    /// [`Self::open_job`] for a packet in several segments, the slow way. ESP header and IV
    /// must lie in the first; the rest, the ICV too, may be cut anywhere. The slices named
    /// by `segments` are shortened to what is deciphered.
    ///
    /// # Errors
    /// As for [`Self::open_job`], and when the layout is not as described.
    pub fn open_job_segments<'a>(
        &'a self,
        candidate: &Candidate,
        segments: &'a mut [&'a mut [u8]],
    ) -> Result<Job<'a>, OpenError> {
        self.same(candidate, segments.iter().map(|s| s.len()).sum())?;
        let first = segments.first_mut().ok_or(OpenError::Truncated)?;
        let (_, rest) = core::mem::take(first)
            .split_first_chunk_mut::<PREFIX_LEN>()
            .ok_or(OpenError::Layout)?;
        *first = rest;
        let mut icv = [0; ICV_LEN];
        let mut missing = icv.as_mut_slice();
        for segment in segments.iter_mut().rev() {
            let here = core::mem::take(segment);
            let taken = missing.len().min(here.len());
            let (rest, tail) = here.split_at_mut(here.len() - taken);
            let (before, now) = missing.split_at_mut(missing.len() - taken);
            now.copy_from_slice(tail);
            *segment = rest;
            missing = before;
        }
        Ok(self.unusual_job(candidate, Data::Segments(segments), icv))
    }

    #[inline(always)]
    fn same(&self, candidate: &Candidate, len: usize) -> Result<(), OpenError> {
        if candidate.spi == self.spi && usize::from(candidate.len) == len {
            Ok(())
        } else {
            Err(OpenError::WrongPacket)
        }
    }

    #[inline(always)]
    fn sequence(&self, candidate: &Candidate) -> Sequence {
        Sequence {
            spi: self.spi.get(),
            number: candidate.esn,
            esn: self.esn,
        }
    }

    #[inline(never)]
    fn unusual_job<'a>(
        &'a self,
        candidate: &Candidate,
        data: Data<'a>,
        icv: [u8; ICV_LEN],
    ) -> Job<'a> {
        let sequence = self.sequence(candidate);
        let (aad, data) = sequence.split(self.algorithm, candidate.iv, data);
        Job::open(&self.key, nonce(*self.salt, candidate.iv), aad, data, icv)
    }

    /// Accepts an authenticated packet: checks its number a second time, since a batch may
    /// hold two copies of one packet, marks it received, and verifies the padding.
    ///
    /// # Errors
    /// When the number is replayed by now or the padding is not the RFC's; the packet must
    /// be dropped.
    #[inline(always)]
    pub fn accept(
        &mut self,
        authenticated: Authenticated,
        packet: &[u8],
    ) -> Result<Opened, OpenError> {
        // Padding that is not in the payload, and not more than there is room for.
        let quick = packet
            .len()
            .checked_sub(ICV_LEN)
            .filter(|end| *end >= PREFIX_LEN + TRAILER_LEN + 3)
            .and_then(|end| packet.get(..end))
            .and_then(parse_short_trailer);
        self.finish(authenticated, packet.len(), |room| match quick {
            Some(found) => Ok(found),
            None => parse_trailer(packet.iter().rev().skip(ICV_LEN), room),
        })
    }

    /// [`Self::accept`] for a packet in several segments, from ESP header to ICV.
    ///
    /// # Errors
    /// As for [`Self::accept`].
    pub fn accept_segments<S: AsRef<[u8]>>(
        &mut self,
        authenticated: Authenticated,
        segments: &[S],
    ) -> Result<Opened, OpenError> {
        let len = segments.iter().map(|s| s.as_ref().len()).sum();
        let backwards = segments.iter().rev().flat_map(|s| s.as_ref().iter().rev());
        self.finish(authenticated, len, |room| {
            parse_trailer(backwards.skip(ICV_LEN), room)
        })
    }

    #[inline(always)]
    fn finish(
        &mut self,
        Authenticated(packet): Authenticated,
        len: usize,
        trailer: impl FnOnce(usize) -> Result<(usize, u8), OpenError>,
    ) -> Result<Opened, OpenError> {
        self.same(&packet, len)?;
        self.window.update(packet.esn)?;
        let room = len
            .checked_sub(PREFIX_LEN + TRAILER_LEN + ICV_LEN)
            .ok_or(OpenError::Truncated)?;
        let (pad, next_header) = trailer(room)?;
        let payload = room - pad;
        self.counters.packets += 1;
        self.counters.bytes += payload as u64;
        Ok(Opened {
            payload: PREFIX_LEN..PREFIX_LEN + payload,
            next_header,
            esn: packet.esn,
        })
    }

    /// Does something and undoes what it did to replay window and counters: for a dry run.
    pub fn rehearse<R>(&mut self, what: impl FnOnce(&mut Self) -> R) -> R {
        let (window, counters) = (self.window.clone(), self.counters);
        let result = what(self);
        (self.window, self.counters) = (window, counters);
        result
    }

    /// Asks the CPU to fetch the key, without waiting, before a batch of packets of many
    /// associations is looked at one by one; and says where its window will be read.
    #[inline]
    pub fn prefetch(&self) -> Option<&u64> {
        self.key.prefetch(crate::SHORT);
        self.window.next_word()
    }

    /// Takes every number up to `floor` for received; see [`ReplayWindow::restore_floor`].
    pub fn restore_floor(&mut self, floor: u64) {
        self.window.restore_floor(floor);
    }

    /// The highest number accepted: what to record durably as the floor of a key that
    /// outlives the process.
    #[must_use]
    #[inline]
    pub fn highest(&self) -> u64 {
        self.window.highest()
    }

    /// Width of the replay window in packets.
    #[must_use]
    pub fn window(&self) -> u64 {
        self.window.width()
    }

    /// Its SPI.
    #[must_use]
    #[inline]
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// Its transform.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The name of its key.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(self.key.fingerprint())
    }

    /// Packets and payload bytes accepted.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbound")
            .field("spi", &self.spi)
            .field("algorithm", &self.algorithm)
            .field("highest", &self.window.highest())
            .finish_non_exhaustive()
    }
}

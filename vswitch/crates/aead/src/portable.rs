//! The backend that runs everywhere: the `aes-gcm` crate, one job after the other. That
//! crate finds AES and carry-less multiplication instructions at run time and falls back
//! to constant-time integer code. Its detached decryption computes and compares the tag
//! over the ciphertext first and deciphers only what is authentic, so a forged packet is
//! never plaintext at any time.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Error, Nonce, Tag as GcmTag};

use crate::backend::{Backend, Sealed};
use crate::job::{Data, Job, Outcome, Tag, Tail};
use crate::key::{Cipher, Form};
use crate::scratch::{Scratch, scatter};
use crate::vault::wipe_lines;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Portable;

impl Sealed for Portable {}

impl Backend for Portable {
    fn name(&self) -> &'static str {
        "portable"
    }

    fn usable(&self) -> bool {
        true
    }

    fn form(&self) -> Form {
        Form::Portable
    }

    fn seal(&self, jobs: &mut [Job<'_>]) {
        run(jobs, Outcome::Sealed);
    }

    fn open(&self, jobs: &mut [Job<'_>]) {
        run(jobs, Outcome::Authentic);
    }
}

/// Cache lines of the stack that [`apart`] and what it calls use at most.
const DEPTH: usize = 192;

/// Works on a batch, and leaves nothing of it on the stack: round keys are spilled there.
fn run(jobs: &mut [Job<'_>], success: Outcome) {
    apart(jobs, success);
    wipe_lines::<DEPTH>();
}

/// A frame of its own, so that nothing is in that of [`run`].
#[inline(never)]
fn apart(jobs: &mut [Job<'_>], success: Outcome) {
    let mut aad = Scratch::default();
    let mut data = Scratch::default();
    for job in jobs {
        if !job.admit(success) {
            continue;
        }
        match one(job, &mut aad, &mut data) {
            Ok(()) => job.succeed(success),
            Err(Error) => job.fail(),
        }
    }
}

/// Seals or opens one job, as its tag says.
fn one(job: &mut Job<'_>, aad_scratch: &mut Scratch, scratch: &mut Scratch) -> Result<(), Error> {
    let cipher = job.key.cipher();
    let nonce = job.nonce();
    let head = job.aad.head();
    let aad: &[u8] = match (head.is_empty(), job.aad.tail()) {
        (true, Tail::Contiguous(t)) => t,
        (_, Tail::None) | (false, Tail::Contiguous([])) => head,
        (_, Tail::Contiguous(t)) => aad_scratch.gather(head.len() + t.len(), [head, t].into_iter()),
        (_, Tail::Segments(_) | Tail::Folded(_)) => {
            aad_scratch.gather(job.aad.len(), job.aad.pieces())
        }
    };
    let len = job.data.len();
    match &mut job.data {
        Data::Contiguous(d) => crypt(cipher, &nonce, aad, d, &mut job.tag),
        Data::Segments(pieces) => {
            let all = scratch.gather(len, pieces.iter().map(|p| &**p));
            crypt(cipher, &nonce, aad, all, &mut job.tag)?;
            scatter(all, pieces);
            Ok(())
        }
    }
}

fn crypt(
    cipher: &Cipher,
    nonce: &[u8; 12],
    aad: &[u8],
    data: &mut [u8],
    tag: &mut Tag<'_>,
) -> Result<(), Error> {
    let nonce = Nonce::from(*nonce);
    let data = InOutBuf::from(data);
    match tag {
        Tag::Write(tag) => {
            **tag = match cipher {
                Cipher::Aes128(c) => c.encrypt_inout_detached(&nonce, aad, data),
                Cipher::Aes256(c) => c.encrypt_inout_detached(&nonce, aad, data),
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                Cipher::Wide(_) => Err(Error),
            }?
            .into();
            Ok(())
        }
        Tag::Compare(tag) => {
            let tag = GcmTag::from(*tag);
            match cipher {
                Cipher::Aes128(c) => c.decrypt_inout_detached(&nonce, aad, data, &tag),
                Cipher::Aes256(c) => c.decrypt_inout_detached(&nonce, aad, data, &tag),
                #[cfg(all(target_arch = "x86_64", not(miri)))]
                Cipher::Wide(_) => Err(Error),
            }
        }
    }
}

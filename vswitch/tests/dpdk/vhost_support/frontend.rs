//! A vhost-user frontend that plays a guest with evil intent: its rings hold whatever the
//! test writes there (vhost-user protocol; VIRTIO 1.1, sections 2.6 and 2.7).

use std::fs::File;
use std::io::{IoSlice, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// Entries of each ring.
pub const RING: u16 = 256;
/// Where the guest's memory begins, in its own view.
pub const GUEST: u64 = 0x1000_0000;
/// Bytes of it.
pub const MEMORY: u64 = 8 << 20;
/// Where packets may lie, from the start of the memory.
pub const DATA: u64 = 1 << 20;

/// `VIRTQ_DESC_F_NEXT`.
pub const NEXT: u16 = 1;
/// `VIRTQ_DESC_F_INDIRECT`.
pub const INDIRECT: u16 = 4;
/// `VIRTQ_DESC_F_AVAIL` of packed rings, first time round.
pub const AVAILABLE: u16 = 1 << 7;

/// Where the frontend itself has the guest's memory; only differences matter.
const USER: u64 = 0x7000_0000_0000;
/// The guest's transmit queue.
const TRANSMIT: u64 = 1;
const AVAIL: u64 = 0x4000;
const USED: u64 = 0x8000;
const BETWEEN_RINGS: u64 = 0x10000;

/// `VIRTIO_F_VERSION_1`, `VHOST_USER_F_PROTOCOL_FEATURES`, `VIRTIO_F_INDIRECT_DESC`.
pub const FEATURES: u64 = 1 << 32 | 1 << 30 | 1 << 28;
/// `VIRTIO_F_RING_PACKED`.
const PACKED: u64 = 1 << 34;

/// A connected guest with one queue pair.
pub struct Frontend {
    pub stream: UnixStream,
    pub memory: File,
    /// Whether what the switch writes into the rings is to be logged for a migration.
    pub logs: bool,
    idx: u16,
}

impl Frontend {
    /// Connects and says that the device may run.
    pub fn connect(path: &Path, packed: bool) -> Self {
        let memory = File::from(rustix::fs::memfd_create("guest", MemfdFlags::CLOEXEC).unwrap());
        memory.set_len(MEMORY).unwrap();
        let features = if packed { FEATURES | PACKED } else { FEATURES };
        Self::with(path, memory, features)
    }

    /// The same with memory and features of its own.
    pub fn with(path: &Path, memory: File, features: u64) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        let guest = Frontend {
            stream,
            memory,
            logs: false,
            idx: 0,
        };
        guest.send(3, &[], None); // SET_OWNER
        guest.send(2, &features.to_le_bytes(), None);
        let words = [1, GUEST, MEMORY, USER, 0].map(u64::to_le_bytes);
        let memory = guest.memory.as_fd();
        guest.send(5, &words.concat(), Some(memory)); // SET_MEM_TABLE
        guest
    }

    /// Describes both rings and starts them: what is to be there at once was written before.
    pub fn start(&self, packed: bool) {
        self.start_with(packed, None);
    }

    /// The same; it wants to be notified by `bell`.
    pub fn start_with(&self, packed: bool, bell: Option<BorrowedFd<'_>>) {
        for ring in 0..2u64 {
            let at = USER + ring * BETWEEN_RINGS;
            let state = |value: u32| [ring as u32, value].map(u32::to_le_bytes).concat();
            self.send(8, &state(u32::from(RING)), None); // SET_VRING_NUM
            // The packed ring's wrap counter begins as 1.
            self.send(10, &state(u32::from(packed) << 15), None); // SET_VRING_BASE
            let logs = u64::from(self.logs) << 32; // VHOST_VRING_F_LOG
            let used = GUEST + ring * BETWEEN_RINGS + USED;
            let words = [ring | logs, at, at + USED, at + AVAIL, used].map(u64::to_le_bytes);
            self.send(9, &words.concat(), None); // SET_VRING_ADDR
            let without = (ring | 0x100).to_le_bytes();
            match bell {
                Some(bell) => self.send(13, &ring.to_le_bytes(), Some(bell)), // SET_VRING_CALL
                None => self.send(13, &without, None),
            }
            self.send(12, &without, None); // SET_VRING_KICK
            self.send(18, &state(1), None); // SET_VRING_ENABLE
        }
    }

    pub fn send(&self, request: u32, payload: &[u8], file: Option<BorrowedFd<'_>>) {
        let header = [request, 1, payload.len() as u32].map(u32::to_le_bytes);
        let message = [&header.concat(), payload].concat();
        let files: Vec<_> = file.into_iter().collect();
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !files.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
        }
        let parts = [IoSlice::new(&message)];
        let sent = rustix::net::sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL);
        // One that is cut off meanwhile notices here.
        if sent != Err(rustix::io::Errno::PIPE) {
            assert_eq!(sent, Ok(message.len()));
        }
    }

    /// Writes into the guest's memory.
    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.memory.write_all_at(bytes, at).unwrap();
    }

    fn transmit(&self, at: u64) -> u64 {
        TRANSMIT * BETWEEN_RINGS + at
    }

    /// A descriptor of the transmit ring (`addr` in the guest's view). In a packed ring the
    /// last field is the flags, the one before it the id.
    pub fn descriptor(&self, index: u16, addr: u64, len: u32, flags: u16, next: u16) {
        let at = self.transmit(u64::from(index) * 16);
        self.write(at, &descriptor(addr, len, flags, next));
    }

    /// Makes chains available, by their heads (split ring).
    pub fn offer(&mut self, heads: &[u16]) {
        for head in heads {
            let slot = u64::from(self.idx % RING);
            self.write(self.transmit(AVAIL + 4 + 2 * slot), &head.to_le_bytes());
            self.idx = self.idx.wrapping_add(1);
        }
        self.write(self.transmit(AVAIL + 2), &self.idx.to_le_bytes());
    }

    /// How many chains the switch has given back (split ring).
    pub fn used(&self) -> u16 {
        let mut idx = [0; 2];
        let at = self.transmit(USED + 2);
        self.memory.read_exact_at(&mut idx, at).unwrap();
        u16::from_le_bytes(idx)
    }

    /// How many the guest offered.
    pub fn offered(&self) -> u16 {
        self.idx
    }

    /// Whether the switch has hung up.
    pub fn cut_off(&mut self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let read = self.stream.read(&mut [0]);
        matches!(&read, Ok(0))
            || read.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset)
    }
}

/// A descriptor as it lies in memory.
pub fn descriptor(addr: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
    let mut bytes = addr.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    bytes
}

//! Who is on the other side of a connection, and what it may not do to us.
//!
//! librte_vhost does not tell a connection's file descriptor, and to know it is the only
//! way to the peer's uid and to time limits on it. So it is looked for among this process's
//! own: the one connected unix socket of that path that we do not know yet. That is sound
//! where it is done, in `new_connection`: librte_vhost makes connections of one path one
//! after the other and holds the new one open throughout the callback.

use std::fs;
use std::io::{self, Read};
use std::mem;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use super::Mode;

/// A peer that stops in the middle of a message (or of reading ours) holds the event thread
/// of all ports this long, and is then cut off. Frontends send a message by one system call,
/// so that its rest is there when its head is.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long a refused peer is left before the next try, where we are the ones who connect.
const COOL_DOWN: Duration = Duration::from_secs(5);

/// A second handle on one of librte_vhost's connections.
pub(super) struct Link {
    stream: UnixStream,
    /// librte_vhost's own descriptor.
    theirs: RawFd,
}

impl Link {
    /// Finds the connection at `path` that is not one of `known`. None as well if there are
    /// several: to take the wrong one would be worse.
    pub(super) fn find(path: &Path, mode: Mode, known: &[RawFd]) -> Option<Link> {
        // One search at a time, over a list made before: the handles opened on the way are
        // descriptors of the same sockets.
        static SEARCH: Mutex<()> = Mutex::new(());
        let _one = SEARCH.lock().unwrap_or_else(PoisonError::into_inner);
        let fds: Vec<RawFd> = fs::read_dir("/proc/self/fd")
            .ok()?
            .flatten()
            .filter(|entry| {
                fs::read_link(entry.path())
                    .is_ok_and(|target| target.as_os_str().as_bytes().starts_with(b"socket:"))
            })
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|fd| !known.contains(fd))
            .collect();
        let (mut exact, mut by_file_name) = (Vec::new(), Vec::new());
        for link in fds.into_iter().filter_map(Link::open) {
            match link.leads_to(path, mode) {
                Match::Exact => exact.push(link),
                Match::FileName => by_file_name.push(link),
                Match::No => {}
            }
        }
        let mut found = if exact.is_empty() {
            by_file_name
        } else {
            exact
        };
        found.pop().filter(|_| found.is_empty())
    }

    fn open(fd: RawFd) -> Option<Link> {
        // SAFETY: only to duplicate it. Should another thread close the number meanwhile,
        // this fails or gives a handle on something else, and what is asked of the handle
        // from then on (`leads_to`) is asked of the handle.
        let owned = unsafe { BorrowedFd::borrow_raw(fd) }
            .try_clone_to_owned()
            .ok()?;
        Some(Link {
            stream: UnixStream::from(owned),
            theirs: fd,
        })
    }

    fn leads_to(&self, path: &Path, mode: Mode) -> Match {
        // Not connected (a listener has the path too), or not a unix socket.
        let Ok(peer) = self.stream.peer_addr() else {
            return Match::No;
        };
        let Ok(local) = self.stream.local_addr() else {
            return Match::No;
        };
        let bound = |address: &SocketAddr| address.as_pathname().map(Path::to_owned);
        match mode {
            Mode::Server if bound(&local).as_deref() == Some(path) => Match::Exact,
            Mode::Server => Match::No,
            Mode::Client if !local.is_unnamed() => Match::No,
            Mode::Client => match bound(&peer) {
                Some(peer) if peer == path => Match::Exact,
                // Bound by a relative name or through another directory.
                Some(peer) if peer.file_name() == path.file_name() => Match::FileName,
                _ => Match::No,
            },
        }
    }

    /// Both descriptors, for the search for the next connection.
    pub(super) fn fds(&self) -> [RawFd; 2] {
        [self.theirs, self.stream.as_raw_fd()]
    }

    /// The peer's uid when it connected, or began to listen.
    pub(super) fn uid(&self) -> Option<u32> {
        let mut cred = libc::ucred {
            pid: 0,
            uid: 0,
            gid: 0,
        };
        let mut len = mem::size_of::<libc::ucred>() as libc::socklen_t;
        // SAFETY: our own descriptor, and room for the answer. (rustix's form would hold the
        // pid in a non-zero type, but a peer in another pid namespace has pid 0.)
        let done = unsafe {
            libc::getsockopt(
                self.stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERCRED,
                (&raw mut cred).cast(),
                &mut len,
            )
        };
        (done == 0).then_some(cred.uid)
    }

    /// Sets the time limits, and keeps the connection out of processes that we start.
    pub(super) fn guard(&self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(PATIENCE))?;
        self.stream.set_write_timeout(Some(PATIENCE))?;
        // SAFETY: librte_vhost keeps it open during `new_connection`, where this is called.
        let theirs = unsafe { BorrowedFd::borrow_raw(self.theirs) };
        rustix::io::fcntl_setfd(theirs, rustix::io::FdFlags::CLOEXEC)?;
        Ok(())
    }

    /// Whether an answer can be sent without waiting for the peer to read.
    pub(super) fn writable(&self) -> bool {
        self.poll(libc::POLLOUT) & (libc::POLLOUT | libc::POLLERR | libc::POLLHUP) != 0
    }

    /// Whether the peer is still there.
    pub(super) fn connected(&self) -> bool {
        self.poll(libc::POLLRDHUP) & (libc::POLLRDHUP | libc::POLLHUP | libc::POLLERR) == 0
    }

    fn poll(&self, events: libc::c_short) -> libc::c_short {
        let mut one = libc::pollfd {
            fd: self.stream.as_raw_fd(),
            events,
            revents: 0,
        };
        // SAFETY: one entry, and it returns at once.
        unsafe { libc::poll(&mut one, 1, 0) };
        one.revents
    }

    /// Cuts the connection off; librte_vhost notices and clears up.
    pub(super) fn cut(&self) {
        // Fails if it is cut off already.
        let _ = self.stream.shutdown(Shutdown::Both);
        // Requests that wait would each be answered, with an error in the log. Nothing can
        // follow them now, so this ends; files that came with them are closed unseen.
        let mut rest = [0; 4096];
        while (&self.stream).read(&mut rest).is_ok_and(|n| n > 0) {}
    }

    /// Cuts the peer off, but lets librte_vhost notice only later: in client mode it would
    /// connect again at once, and again. Only during `new_connection`.
    pub(super) fn park(&self) -> io::Result<()> {
        let (quiet, end) = UnixStream::pair()?;
        self.cut();
        // SAFETY: librte_vhost's own descriptor, which it keeps open during the callback and
        // knows by number only: it now is one end of a pair on which nothing happens.
        if unsafe { libc::dup3(quiet.as_raw_fd(), self.theirs, libc::O_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
        // If there is no thread to be had, `end` is closed at once.
        thread::Builder::new()
            .name("vhost-cooldown".into())
            .spawn(move || {
                thread::sleep(COOL_DOWN);
                drop(end);
            })?;
        Ok(())
    }
}

enum Match {
    Exact,
    FileName,
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn the_one_unknown_connection_is_found_from_both_sides() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("found");
        let listener = UnixListener::bind(&path).unwrap();
        assert!(
            Link::find(&path, Mode::Server, &[]).is_none(),
            "a listener is no connection"
        );

        let client = UnixStream::connect(&path).unwrap();
        let (server, _) = listener.accept().unwrap();
        let found = Link::find(&path, Mode::Server, &[]).unwrap();
        assert_eq!(found.theirs, server.as_raw_fd());
        assert_eq!(found.uid(), Some(rustix::process::getuid().as_raw()));
        assert!(Link::find(&path, Mode::Server, &found.fds()).is_none());

        let other = Link::find(&path, Mode::Client, &[]).unwrap();
        assert_eq!(other.theirs, client.as_raw_fd());
        let elsewhere = Path::new("/elsewhere/found");
        assert!(Link::find(elsewhere, Mode::Client, &[other.stream.as_raw_fd()]).is_some());
        assert!(Link::find(elsewhere, Mode::Server, &[]).is_none());
        assert!(Link::find(&dir.path().join("t"), Mode::Client, &[]).is_none());

        let twin = UnixStream::connect(&path).unwrap();
        assert!(Link::find(&path, Mode::Client, &other.fds()).is_some());
        assert!(
            Link::find(&path, Mode::Client, &[]).is_none(),
            "which of the two?"
        );
        drop(twin);

        assert!(found.connected() && found.writable());
        drop(other);
        drop(client);
        assert!(!found.connected());
    }

    #[test]
    fn a_parked_peer_is_cut_off_and_our_side_stays_quiet() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("parked");
        let listener = UnixListener::bind(&path).unwrap();
        let mut ours = UnixStream::connect(&path).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let link = Link::find(&path, Mode::Client, &[]).unwrap();
        link.guard().unwrap();
        link.park().unwrap();
        assert_eq!(peer.read(&mut [0]).unwrap(), 0, "the peer sees the end");
        ours.set_nonblocking(true).unwrap();
        assert_eq!(
            ours.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}

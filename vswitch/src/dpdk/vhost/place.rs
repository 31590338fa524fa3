//! The socket's place in the file system: free before we bind, and given to its owner after.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{VhostConfig, VhostError};

/// Removes a socket that nobody listens on, and sees that one can be made there. What
/// librte_vhost would only log becomes an error here.
pub(super) fn clear(path: &Path) -> Result<(), VhostError> {
    let io_error = |doing, source| VhostError::Io {
        path: path.to_owned(),
        doing,
        source,
    };
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_error("looking at it", e)),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(VhostError::NotASocket(path.to_owned()));
        }
        Ok(_) => {
            if listened_on(path).map_err(|e| io_error("asking who listens", e))? {
                return Err(VhostError::InUse(path.to_owned()));
            }
            fs::remove_file(path).map_err(|e| io_error("removing the stale socket", e))?;
        }
    }
    // Bound but not listening, so nobody gets in.
    (|| {
        rustix::net::bind(&unix_socket()?, &SocketAddrUnix::new(path)?)?;
        fs::remove_file(path)
    })()
    .map_err(|e| io_error("making the socket", e))
}

fn unix_socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn listened_on(path: &Path) -> io::Result<bool> {
    match rustix::net::connect(&unix_socket()?, &SocketAddrUnix::new(path)?) {
        Ok(()) => Ok(true),
        // Its backlog is full.
        Err(rustix::io::Errno::AGAIN) => Ok(true),
        Err(rustix::io::Errno::CONNREFUSED) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Gives the bound socket its owner, then its permissions. By a handle on the inode, so
/// that a name exchanged meanwhile leads nowhere.
pub(super) fn hand_over(config: &VhostConfig) -> Result<(), VhostError> {
    let io_error = |doing, source: io::Error| VhostError::Io {
        path: config.path.clone(),
        doing,
        source,
    };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::openat(CWD, &config.path, flags, Mode::empty())
        .map_err(|e| io_error("opening it", e.into()))?;
    let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let meta = fs::metadata(&link).map_err(|e| io_error("looking at it", e))?;
    if !meta.file_type().is_socket() {
        return Err(VhostError::NotASocket(config.path.clone()));
    }
    if config.uid.is_some() || config.gid.is_some() {
        let (uid, gid) = (config.uid.map(Uid::from_raw), config.gid.map(Gid::from_raw));
        rustix::fs::chownat(&socket, "", uid, gid, AtFlags::EMPTY_PATH)
            .map_err(|e| io_error("changing its owner", e.into()))?;
    }
    fs::set_permissions(&link, fs::Permissions::from_mode(config.permissions))
        .map_err(|e| io_error("changing its permissions", e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn only_a_stale_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        clear(&path).unwrap();
        assert!(!path.exists());

        let listener = UnixListener::bind(&path).unwrap();
        assert!(matches!(clear(&path), Err(VhostError::InUse(_))));
        drop(listener);
        assert!(path.exists());
        clear(&path).unwrap();
        assert!(!path.exists());

        fs::write(&path, "precious").unwrap();
        assert!(matches!(clear(&path), Err(VhostError::NotASocket(_))));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
        let missing = dir.path().join("no/s");
        assert!(matches!(clear(&missing), Err(VhostError::Io { .. })));
    }
}

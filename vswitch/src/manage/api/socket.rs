//! The API's unix socket: put in place with its permissions, and never in place of one that
//! somebody still answers on.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::net::{UnixListener, UnixStream};

use super::server::ApiError;

/// The switch's user and group may ask.
const MODE: u32 = 0o660;

/// How often and how many times to try for the directory's lock: another daemon holds it
/// for the moment that it takes to put a socket there.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
const LOCK_TRIES: u32 = 100;

/// A socket in the file system; removed when dropped, unless another has taken its place.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|found| found.dev() == self.device && found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(socket = %self.path.display(), %error, "the API's socket stays behind");
        }
    }
}

/// Listens at `path`.
pub(super) async fn listen(path: &Path) -> Result<(UnixListener, Place), ApiError> {
    let at = |error| ApiError::Socket {
        path: path.to_owned(),
        error,
    };
    let parent = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    };
    create_directory(parent).map_err(at)?;
    // From the test whether somebody answers until our socket is there: of two daemons that
    // start together, the second must see the first.
    let _lock = lock(parent).await.map_err(at)?;
    check_free(path).await?;

    // Made in a directory that nobody else can enter and moved into place when its mode is
    // right. A umask would do as well, but it is the whole process's.
    let staging = Staging::new(parent).map_err(at)?;
    let made = staging.0.join("s");
    let listener = UnixListener::bind(&made).map_err(at)?;
    fs::set_permissions(&made, Permissions::from_mode(MODE)).map_err(at)?;
    let metadata = fs::symlink_metadata(&made).map_err(at)?;
    fs::rename(&made, path).map_err(at)?;
    let place = Place {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    };
    Ok((listener, place))
}

fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    // Whatever the umask is: the socket's group must get to the socket.
    fs::set_permissions(directory, Permissions::from_mode(0o755))
}

async fn lock(directory: &Path) -> io::Result<File> {
    let file = File::open(directory)?;
    for _ in 0..LOCK_TRIES {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_PAUSE).await,
            Err(other) => return Err(other.into()),
        }
    }
    Err(io::Error::new(
        io::ErrorKind::TimedOut,
        "another process keeps its directory locked",
    ))
}

/// Nothing there, or a socket that nobody listens on.
async fn check_free(path: &Path) -> Result<(), ApiError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => {
            return Err(ApiError::Socket {
                path: path.to_owned(),
                error,
            });
        }
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ApiError::NotASocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // EAGAIN: a listener with a full backlog.
        Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(ApiError::Socket {
            path: path.to_owned(),
            error,
        }),
        _ => Err(ApiError::InUse(path.to_owned())),
    }
}

/// A directory of our own, for a moment.
struct Staging(PathBuf);

impl Staging {
    fn new(parent: &Path) -> io::Result<Self> {
        let path = parent.join(format!(".{}", std::process::id()));
        let create = || DirBuilder::new().mode(0o700).create(&path);
        match create() {
            // A predecessor of the same number was killed right here.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                drop(Staging(path.clone()));
                create()?;
            }
            other => other?,
        }
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // What cannot be removed is empty or unreachable, and the next start tries again.
        let _ = fs::remove_file(self.0.join("s"));
        let _ = fs::remove_dir(&self.0);
    }
}

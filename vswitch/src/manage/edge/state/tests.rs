//! Restarts, lost records, failed writes, rivals: no number is handed out twice.

use super::*;
use vswitch_sa::{Algorithm, KeyMaterial};

fn key(byte: u8) -> Fingerprint {
    KeyMaterial::from_bytes(vswitch_aead::portable(), Algorithm::Aes128Gcm, &[byte; 20])
        .unwrap()
        .fingerprint()
}

/// With locks of its own for each test's directory, as tests share keys.
fn open(path: &Path) -> Result<StateDir, KeyError> {
    StateDir::open_with(path, path.parent().unwrap_or(path))
}

fn spi() -> Spi {
    Spi::new(0x1000).unwrap()
}

#[test]
fn blocks_follow_one_another_across_restarts_and_spis() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let spi = Spi::new(0x1000).unwrap();
    let first = open(&path).unwrap().reserve(spi, key(1), true).unwrap();
    assert_eq!(first.first, 1);
    let mut state = open(&path).unwrap();
    let other_spi = Spi::new(0x2000).unwrap();
    let second = state.reserve(other_spi, key(1), true).unwrap();
    assert_eq!(second.first, first.until);
    assert_eq!(state.reserve(spi, key(2), true).unwrap().first, 1);
}

#[test]
fn a_damaged_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = open(&dir.path().join("state")).unwrap();
    let spi = Spi::new(0x1000).unwrap();
    state.reserve(spi, key(1), true).unwrap();
    let file = dir
        .path()
        .join("state")
        .join(Record::file_name(Kept::Outbound, key(1)));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen('1', "2", 1)).unwrap();
    assert!(matches!(
        state.reserve(spi, key(1), true),
        Err(KeyError::Record { .. })
    ));
    fs::write(&file, "").unwrap();
    assert!(matches!(
        state.reserve(spi, key(1), true),
        Err(KeyError::Record { .. })
    ));
}

#[test]
fn two_processes_do_not_share_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(&dir.path().join("state")).unwrap();
    assert!(matches!(
        open(&dir.path().join("state")),
        Err(KeyError::InUse(_))
    ));
    drop(held);
    open(&dir.path().join("state")).unwrap();
}

#[test]
fn a_record_lost_or_set_back_while_running_is_made_up_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut state = open(&path).unwrap();
    let file = path.join(Record::file_name(Kept::Outbound, key(1)));
    let first = state.reserve(spi(), key(1), true).unwrap();
    let old = fs::read(&file).unwrap();
    let second = state.reserve(spi(), key(1), true).unwrap();
    let newer = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let third = state.reserve(spi(), key(1), true).unwrap();
    assert_eq!(
        (second.first, third.first),
        (first.until, second.until),
        "not from 1 again"
    );
    fs::write(&file, old).unwrap();
    let fourth = state.reserve(spi(), key(1), true).unwrap();
    assert_eq!(fourth.first, third.until);
    let end = read_record(&file, key(1)).unwrap();
    assert_eq!(end, Some(fourth.until), "the file is right again");

    // Higher than what is known: these numbers are another's.
    drop(state);
    fs::write(&file, newer).unwrap();
    let mut state = open(&path).unwrap();
    let block = state.reserve(spi(), key(1), true).unwrap();
    let record = Record {
        direction: Kept::Outbound,
        spi: spi(),
        key: key(1),
        sequence: block.until + 1,
    };
    fs::write(&file, record.encode()).unwrap();
    assert!(matches!(
        state.reserve(spi(), key(1), true),
        Err(KeyError::Foreign { .. })
    ));
}

#[test]
fn a_failed_reservation_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let mut state = open(&path).unwrap();
    let file = path.join(Record::file_name(Kept::Outbound, key(1)));
    let blocker = file.with_extension("new");
    let mut end = 1;
    for _ in 0..2 {
        fs::create_dir(&blocker).unwrap();
        for _ in 0..2 {
            assert!(matches!(
                state.reserve(spi(), key(1), true),
                Err(KeyError::Io { .. })
            ));
        }
        fs::remove_dir(&blocker).unwrap();
        let block = state.reserve(spi(), key(1), true).unwrap();
        assert_eq!(block.first, end);
        end = block.until;
    }
    // An attempt that failed after the rename: the numbers are nobody's yet.
    state.note(key(1), 1, end);
    assert_eq!(state.reserve(spi(), key(1), true).unwrap().first, 1);
}

#[test]
fn one_key_serves_one_daemon_whatever_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut one = open(&dir.path().join("one")).unwrap();
    let mut two = open(&dir.path().join("two")).unwrap();
    one.reserve(spi(), key(1), true).unwrap();
    two.reserve(spi(), key(2), true).unwrap();
    let refused = two.reserve(spi(), key(1), true);
    assert!(matches!(refused, Err(KeyError::KeyInUse(_))));
    drop(one);
    two.reserve(spi(), key(1), true).unwrap();
}

#[test]
fn a_directory_that_others_can_change_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/state");
    drop(open(&path).unwrap());
    for (mode, good) in [(0o755, true), (0o770, false), (0o702, false), (0o700, true)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let opened = open(&path);
        assert_eq!(opened.is_ok(), good, "{mode:o}");
        if let Err(error) = opened {
            let text = error.to_string();
            assert!(text.contains("chmod 0700 ") && text.contains("/a/b/state"));
        }
    }
    // Only root can give a directory away.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        assert!(matches!(
            open(&path),
            Err(KeyError::Unsafe { owner: 65_534, .. })
        ));
    }
}

#[test]
fn a_directory_in_memory_is_noticed() {
    assert!(!in_memory(Path::new("/proc")));
    let shm = Path::new("/dev/shm");
    if fs::read_to_string("/proc/mounts")
        .unwrap()
        .contains("tmpfs /dev/shm tmpfs ")
    {
        assert!(in_memory(shm));
    }
}

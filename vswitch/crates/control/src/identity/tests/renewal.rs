//! New files are taken, broken ones are not.

use std::fs;
use std::time::{Duration, SystemTime};

use super::*;

/// Until `done`, or a test has failed.
pub(super) async fn until(what: &str, done: impl Fn() -> bool) {
    for _ in 0..400 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("not within ten seconds: {what}");
}

#[tokio::test]
async fn renewed_files_are_taken_and_broken_ones_are_not() {
    let lab = Lab::new("lab");
    let files = lab.files(Role::Nve, "a");
    let watcher = Watcher::start(files.clone(), Role::Nve, Clock::system()).unwrap();
    let first = watcher.current();

    // In place, as some helpers write, and cut short.
    let whole = fs::read(&files.key).unwrap();
    fs::write(&files.key, &whole[..whole.len() / 2]).unwrap();
    until("a broken key is reported", || {
        watcher.status().problem.is_some()
    })
    .await;
    assert!(watcher.current().same(&first));
    let problem = watcher.status().problem.unwrap().to_string();
    assert!(problem.contains("svid_key.pem"), "{problem}");

    lab.ca
        .issue(Role::Nve, "a", 2 * DAY, SystemTime::now())
        .unwrap();
    until("a renewal is taken", || !watcher.current().same(&first)).await;
    let status = watcher.status();
    assert_eq!((status.renewals, status.problem), (1, None));
    assert_eq!(status.not_after, watcher.current().certificate().not_after);
    assert!(status.not_after > first.certificate().not_after);

    // Somebody else's files in the same place change nobody's name.
    let second = watcher.current();
    let other = lab.files(Role::Nve, "b");
    fs::copy(&other.key, &files.key).unwrap();
    fs::copy(&other.chain, &files.chain).unwrap();
    let changed = || matches!(watcher.status().problem, Some(RenewalError::Changed { .. }));
    until("another identity is reported", changed).await;
    assert!(watcher.current().same(&second));
}

#[tokio::test]
async fn there_must_be_something_to_begin_with() {
    let lab = Lab::new("lab");
    let files = lab.files(Role::Ima, "a");
    let error = Watcher::start(files, Role::Nve, Clock::system()).unwrap_err();
    assert!(
        matches!(
            error,
            WatchError::Credentials(CredentialsError::Role { .. })
        ),
        "{error}"
    );
    let nowhere = Files::in_directory(&lab.directory.path().join("no"));
    let error = Watcher::start(nowhere, Role::Nve, Clock::system()).unwrap_err();
    assert!(matches!(error, WatchError::Notify(..)), "{error}");
}

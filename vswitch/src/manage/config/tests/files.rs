//! Files as the file system has them: the configuration and its keys.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::super::{Config, ConfigError};
use super::{EXAMPLE, edit, key_dir, parse, write_key};

fn load(contents: &[u8]) -> String {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("nve.yaml");
    fs::write(&file, contents).unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    error.replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn load_names_the_file_and_finds_keys_beside_it() {
    let dir = key_dir();
    let file = dir.path().join("nve.yaml");
    fs::write(&file, edit(EXAMPLE, "group: kvm", "group: root")).unwrap();
    let config = Config::load(&file).unwrap();
    assert_eq!(config.file(), file);
    assert!(
        config
            .check_report()
            .starts_with(&format!("{}: OK\n", file.display()))
    );
    assert_eq!(
        load(b"nve: {nam: a}"),
        "DIR/nve.yaml:1:7: nve: unknown key `nam`: did you mean `name`?"
    );
}

#[test]
fn what_is_no_text_is_refused() {
    let empty = "DIR/nve.yaml: is empty: at least `nve: {name: …}` is needed";
    for text in ["", "\n\n", "# nothing\n---\n  # here\n"] {
        assert_eq!(load(text.as_bytes()), empty);
    }
    assert_eq!(
        load(b"nve:\n  name: \xc3\xa9\xff\n"),
        "DIR/nve.yaml:2:10: byte 0xff is not UTF-8: save the file as UTF-8"
    );
    let dir = TempDir::new().unwrap();
    let error = |path: &Path| Config::load(path).unwrap_err();
    assert!(
        error(dir.path())
            .to_string()
            .ends_with("cannot be read: it is a directory")
    );
    let none = error(&dir.path().join("none.yaml"));
    assert!(matches!(none, ConfigError::Unreadable { .. }), "{none}");
    assert!(
        none.to_string()
            .contains("none.yaml: cannot be read: No such file"),
        "{none}"
    );
}

/// The message about one key file of the example.
fn with_key(make: impl Fn(&Path)) -> String {
    let dir = key_dir();
    let key = dir.path().join("keys/blue-b-to-a.key");
    fs::remove_file(&key).unwrap();
    make(&key);
    let error = parse(EXAMPLE, dir.path()).unwrap_err();
    let [problem] = error.problems() else {
        panic!("{error}")
    };
    assert_eq!(problem.key, "security-associations[2].key-file");
    assert_eq!(problem.position.map(|p| p.line), Some(138));
    problem
        .message
        .replace(&dir.path().display().to_string(), "DIR")
}

#[test]
fn key_files_others_can_read_are_refused() {
    for (mode, verb) in [
        (0o640, "read"),
        (0o604, "read"),
        (0o620, "written"),
        (0o610, "used"),
    ] {
        assert_eq!(
            with_key(|key| write_key(key, &"43".repeat(36), mode)),
            format!(
                "DIR/keys/blue-b-to-a.key can be {verb} by others (mode {mode:04o}): chmod 0600 \
                 DIR/keys/blue-b-to-a.key"
            )
        );
    }
    // Through a link the file counts, not the link.
    let linked = with_key(|key| {
        let target = key.with_extension("real");
        write_key(&target, &"43".repeat(36), 0o644);
        symlink(&target, key).unwrap();
    });
    assert!(
        linked.contains("can be read by others (mode 0644)"),
        "{linked}"
    );
    let strange = with_key(|key| {
        let dir = key.with_file_name("a 'b");
        fs::create_dir(&dir).unwrap();
        write_key(&dir.join("k"), &"43".repeat(36), 0o600);
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        symlink(&dir, key).unwrap();
    });
    assert_eq!(strange, "DIR/keys/blue-b-to-a.key is not a regular file");
}

#[test]
fn a_key_of_another_user_is_refused() {
    // Only root can give a file away; elsewhere there is nothing to see.
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let message = with_key(|key| {
        write_key(key, &"43".repeat(36), 0o600);
        std::os::unix::fs::chown(key, Some(65534), None).unwrap();
    });
    assert_eq!(
        message,
        "DIR/keys/blue-b-to-a.key belongs to user 65534, who may change it: chown 0 \
         DIR/keys/blue-b-to-a.key"
    );
}

#[test]
fn bad_keys_are_named_and_not_shown() {
    let text = |text: &str| {
        let message = with_key(|key| write_key(key, text, 0o600));
        assert!(!message.contains("4343"), "{message}");
        message.replace("DIR/keys/blue-b-to-a.key", "KEY")
    };
    assert_eq!(
        text(""),
        "KEY: aes-256-gcm needs 36 bytes of key and salt together, found 0"
    );
    assert_eq!(
        text(&"43".repeat(20)),
        "KEY: aes-256-gcm needs 36 bytes of key and salt together, found 20"
    );
    assert_eq!(
        text("4343zz"),
        "KEY: character 5 is not a hexadecimal digit"
    );
    assert_eq!(text(&"0".repeat(72)), "KEY: the key is all zeros");
    assert_eq!(
        text(&"43".repeat(3000)),
        "KEY is longer than any key in hex (4096 bytes)"
    );
    assert_eq!(
        with_key(|_| ()),
        "DIR/keys/blue-b-to-a.key cannot be read: No such file or directory (os error 2)"
    );
    assert_eq!(
        with_key(|key| fs::write(key, b"\xff\xfe")
            .and_then(|()| { fs::set_permissions(key, fs::Permissions::from_mode(0o600)) })
            .unwrap()),
        "DIR/keys/blue-b-to-a.key is not text: the key is written in hex"
    );
    assert_eq!(
        with_key(|key| fs::create_dir(key).unwrap()),
        "DIR/keys/blue-b-to-a.key is not a regular file"
    );
}

#[test]
fn one_key_for_two_associations_is_refused() {
    let dir = key_dir();
    // Another salt does not make it another key.
    let text = format!("{}deadbeef", "41".repeat(32));
    write_key(&dir.path().join("keys/blue-b-to-a.key"), &text, 0o600);
    let error = parse(EXAMPLE, dir.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "configuration:138:5: security-associations[2].key-file: holds the same key as \
         security-associations[0].key-file: one key for two associations uses nonces twice, which \
         gives the key away"
    );
}

//! The configuration as operators meet it: the example, bad files, the documentation.

mod bad;
mod docs;
mod files;
mod good;
mod mutations;
mod schema;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::{Accounts, Config, ConfigError};

/// The file operators start from.
const EXAMPLE: &str = include_str!("../../../../../docs/example-nve.yaml");

fn accounts() -> Accounts {
    Accounts::parse(
        "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:107:107::/:/bin/false\n",
        "root:x:0:\nkvm:x:104:libvirt-qemu\n",
    )
}

/// A directory with the key files of the example.
fn key_dir() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    for (i, (name, len)) in [
        ("blue-a-to-b-0", 36),
        ("blue-a-to-b-1", 36),
        ("blue-b-to-a", 36),
        ("red-a-to-linux", 20),
        ("red-linux-to-a", 20),
    ]
    .into_iter()
    .enumerate()
    {
        let digits = format!("{:02x}", 0x41 + i).repeat(len);
        write_key(&dir.path().join(format!("keys/{name}.key")), &digits, 0o600);
    }
    dir
}

fn write_key(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn parse(text: &str, base: &Path) -> Result<Config, ConfigError> {
    Config::parse_with(text, base, &accounts())
}

/// `text` with `old`, which must be there once, replaced.
fn edit(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} in the example");
    text.replace(old, new)
}

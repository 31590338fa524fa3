//! Configuration: any text is a configuration or an error that can be shown, and what was
//! accepted is accepted again, with the same meaning.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use vswitch::manage::config::{Accounts, Config, HostFacts};

use super::Eat;

/// What operators start from.
const EXAMPLE: &str = include_str!("../../../docs/example-nve.yaml");

/// Makes a directory with the example's keys.
pub fn start() -> Eat {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("keys")).expect("a directory");
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
        let path = dir.path().join(format!("keys/{name}.key"));
        fs::write(&path, format!("{:02x}", 0x41 + i).repeat(len)).expect("a key");
        fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("mode");
    }
    let accounts = Accounts::parse(
        "root:x:0:0:root:/root:/bin/sh\nlibvirt-qemu:x:107:107::/:/bin/false\n",
        "root:x:0:\nkvm:x:104:libvirt-qemu\n",
    );
    let host = HostFacts::default();
    Box::new(move |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else {
            return;
        };
        match Config::parse_with(text, dir.path(), &accounts) {
            Ok(config) => {
                assert!(!config.check_report().is_empty());
                assert!(!config.check_report_on(&host).is_empty());
                let again = Config::parse_with(text, dir.path(), &accounts);
                assert_eq!(again.ok(), Some(config), "accepted once and not again");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    })
}

/// The example, its sections one by one, and shorter ones.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![EXAMPLE.as_bytes().to_vec(), Vec::new()];
    let mut section = String::new();
    for line in EXAMPLE.lines() {
        let begins = line.starts_with(|c: char| c.is_ascii_alphabetic());
        if begins && !section.is_empty() {
            seeds.push(std::mem::take(&mut section).into_bytes());
        }
        section.push_str(line);
        section.push('\n');
    }
    seeds.push(section.into_bytes());
    for text in [
        "nve: {name: a}\nworkers: {cores: [0]}\n",
        "a: &a [*a]\n",
        "a: &a {b: 1}\nc: {<<: *a}\n",
        "nve: !!binary aGVsbG8=\n",
        "? [a]\n: b\n",
        "--- a\n--- b\n",
        "vns: [{name: x, vni: 16777216}]\n",
    ] {
        seeds.push(text.as_bytes().to_vec());
    }
    seeds
}

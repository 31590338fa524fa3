//! Users and groups of this host, by name.

use std::collections::HashMap;
use std::fs;

/// What `/etc/passwd` and `/etc/group` say. Accounts from elsewhere (LDAP) have their numbers.
#[derive(Clone, Debug, Default)]
pub struct Accounts {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

impl Accounts {
    /// Those of this host. A file that cannot be read has no names in it.
    pub fn system() -> Self {
        let read = |path| fs::read(path).unwrap_or_default();
        Self::parse(
            &String::from_utf8_lossy(&read("/etc/passwd")),
            &String::from_utf8_lossy(&read("/etc/group")),
        )
    }

    /// From the text of the two files.
    pub fn parse(passwd: &str, group: &str) -> Self {
        // In both, the name is the first field and the number the third.
        let table = |text: &str| {
            text.lines()
                .filter_map(|line| {
                    let mut fields = line.split(':');
                    let name = fields.next()?;
                    let number = fields.nth(1)?.parse().ok()?;
                    Some((name.to_owned(), number))
                })
                .collect()
        };
        Self {
            users: table(passwd),
            groups: table(group),
        }
    }

    /// Number of the user `name`.
    pub fn user(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied()
    }

    /// Number of the group `name`.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }

    pub(super) fn user_names(&self) -> Vec<&str> {
        sorted(&self.users)
    }

    pub(super) fn group_names(&self) -> Vec<&str> {
        sorted(&self.groups)
    }
}

fn sorted(table: &HashMap<String, u32>) -> Vec<&str> {
    let mut names: Vec<&str> = table.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

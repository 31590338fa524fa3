//! What the validation found, and the small checks all of its parts share.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::locate::locate;
use super::names;
use super::problem::{KeyPath, Problem};
use super::types::MacAddr;

/// Errors and warnings with the keys they are about.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<(KeyPath, String)>,
    pub(super) warnings: Vec<(KeyPath, String)>,
}

impl Findings {
    pub(super) fn error(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.errors.push((path.clone(), message.into()));
    }

    pub(super) fn warn(&mut self, path: &KeyPath, message: impl Into<String>) {
        self.warnings.push((path.clone(), message.into()));
    }

    /// `value` if it is within `range`; anything else is an error and the low end.
    pub(super) fn within<T>(
        &mut self,
        path: &KeyPath,
        value: u64,
        range: RangeInclusive<u64>,
        unit: &str,
    ) -> T
    where
        T: TryFrom<u64> + Default,
    {
        if !range.contains(&value) {
            let (low, high) = (range.start(), range.end());
            let unit = if unit.is_empty() {
                String::new()
            } else {
                format!(" {unit}")
            };
            self.error(
                path,
                format!("{value} is out of range: {low} to {high}{unit}"),
            );
        }
        T::try_from(value.clamp(*range.start(), *range.end())).unwrap_or_default()
    }

    /// A name as [`names::is_plain`] allows them.
    pub(super) fn plain(&mut self, path: &KeyPath, name: &str) {
        if !names::is_plain(name) {
            self.error(
                path,
                format!(
                    "{name:?} is not a usable name: 1 to 63 letters, digits, `.`, `_` or `-`, \
                     the first a letter or digit"
                ),
            );
        }
    }

    /// An IP address a host can have.
    pub(super) fn ip(&mut self, path: &KeyPath, text: &str) -> Option<IpAddr> {
        let Ok(ip) = text.parse::<IpAddr>() else {
            self.error(path, format!("{text:?} is not an IPv4 or IPv6 address"));
            return None;
        };
        match unusable(ip) {
            None => Some(ip),
            Some(kind) => {
                self.error(path, format!("{ip} is {kind}: no host can have it"));
                None
            }
        }
    }

    /// A MAC address an interface can have.
    pub(super) fn mac(&mut self, path: &KeyPath, text: &str) -> Option<MacAddr> {
        let Ok(mac) = text.parse::<MacAddr>() else {
            self.error(
                path,
                format!("{text:?} is not a MAC address such as 52:54:00:00:00:01"),
            );
            return None;
        };
        if mac.is_zero() {
            self.error(
                path,
                format!("{mac} is all zeros: no interface can have it"),
            );
            return None;
        }
        if mac.is_multicast() {
            self.error(
                path,
                format!("{mac} is a group address (lowest bit of the first byte): no interface can have it"),
            );
            return None;
        }
        Some(mac)
    }

    /// Moves everything found into problems with positions, in the order of the text.
    pub(super) fn locate(found: Vec<(KeyPath, String)>, text: &str) -> Vec<Problem> {
        /// Each look-up reads the text again; nobody reads more lines than this.
        const LOCATED: usize = 200;
        let mut problems: Vec<Problem> = found
            .into_iter()
            .enumerate()
            .map(|(i, (path, message))| Problem {
                position: (i < LOCATED).then(|| locate(text, &path)).flatten(),
                key: path.to_string(),
                message,
            })
            .collect();
        problems.sort_by_key(|p| (p.position.is_none(), p.position));
        problems
    }
}

/// Why no host can have this address, if so.
fn unusable(ip: IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        return Some("the unspecified address");
    }
    if ip.is_multicast() {
        return Some("a multicast address");
    }
    match ip {
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address"),
        _ => None,
    }
}

/// Things that must be there once only: remembers where the first one was.
pub(super) struct Once<T> {
    seen: HashMap<T, KeyPath>,
}

impl<T: Eq + Hash> Once<T> {
    pub(super) fn new() -> Self {
        Self {
            seen: HashMap::new(),
        }
    }

    /// Reports `what` as taken if `value` was here before.
    pub(super) fn claim(&mut self, f: &mut Findings, path: &KeyPath, value: T, what: impl Display) {
        if let Some(first) = self.seen.get(&value) {
            f.error(path, format!("{what} is already taken by {first}"));
        } else {
            self.seen.insert(value, path.clone());
        }
    }
}

/// The names of one kind of thing, and the index each stands for.
pub(super) struct Names<'a> {
    kind: &'static str,
    names: Vec<&'a str>,
    index: HashMap<&'a str, usize>,
}

impl<'a> Names<'a> {
    /// Takes the names in order; unusable ones and those `taken` has are errors.
    pub(super) fn collect(
        f: &mut Findings,
        taken: &mut Once<&'a str>,
        kind: &'static str,
        list: &KeyPath,
        names: impl Iterator<Item = &'a str>,
    ) -> Self {
        let mut this = Self {
            kind,
            names: Vec::new(),
            index: HashMap::new(),
        };
        for (i, name) in names.enumerate() {
            let path = list.index(i).key("name");
            f.plain(&path, name);
            taken.claim(f, &path, name, format_args!("the name `{name}`"));
            this.index.entry(name).or_insert(i);
            this.names.push(name);
        }
        this
    }

    /// The index of `name`, or an error that says what was probably meant.
    pub(super) fn resolve(&self, f: &mut Findings, path: &KeyPath, name: &str) -> Option<usize> {
        let found = self.index.get(name).copied();
        if found.is_none() {
            let hint = names::suggestion(name, &self.names);
            f.error(path, format!("no {} is called `{name}`: {hint}", self.kind));
        }
        found
    }

    pub(super) fn name(&self, index: usize) -> &'a str {
        self.names.get(index).copied().unwrap_or("?")
    }
}

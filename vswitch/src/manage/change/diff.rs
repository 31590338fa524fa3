//! What is different between two configurations, thing by thing and field by field: as text
//! for people, as JSON, and to check that what is done is what was shown.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::describe::{Object, Value, objects};
use super::restart;
use crate::manage::config::{Config, Direction};

/// The difference between two configurations. Empty if they mean the same.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// In the order of the new file, what is removed last.
    pub entries: Vec<Entry>,
}

/// What becomes of a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Op {
    /// It is new.
    Add,
    /// It goes.
    Remove,
    /// It stays and changes.
    Change,
}

/// A thing that is not the same in both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What becomes of it.
    pub op: Op,
    /// `port`, `vn`, `peer`, `sa` and so on.
    pub kind: String,
    /// Its name; empty where there is one of the kind only.
    pub name: String,
    /// What is different; of a thing that comes or goes, all of it.
    pub fields: Vec<Field>,
    /// Why it cannot be changed while the switch runs; absent if it can.
    pub restart: Option<String>,
}

/// A field of a thing, as it was and as it will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// Its name, as in the file.
    pub name: String,
    /// Values that go.
    pub old: Vec<String>,
    /// Values that come.
    pub new: Vec<String>,
}

impl Diff {
    /// What is different in `new`.
    pub fn between(old: &Config, new: &Config) -> Diff {
        let (before, after) = (objects(old), objects(new));
        let had: BTreeMap<(&str, &str), &Object> = before.iter().map(|o| (key(o), o)).collect();
        let has: BTreeMap<(&str, &str), &Object> = after.iter().map(|o| (key(o), o)).collect();
        let mut entries = Vec::new();
        for object in &after {
            match had.get(&key(object)) {
                None => entries.push(entry(Op::Add, object, all(object, false))),
                Some(was) => {
                    let fields = changed(was, object);
                    if !fields.is_empty() {
                        entries.push(entry(Op::Change, object, fields));
                    }
                }
            }
        }
        for object in &before {
            if !has.contains_key(&key(object)) {
                entries.push(entry(Op::Remove, object, all(object, true)));
            }
        }
        salts(old, new, &mut entries);
        for entry in &mut entries {
            entry.restart = restart::reason(entry, old);
        }
        Diff { entries }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What needs a restart.
    pub fn restarts(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.restart.is_some())
    }
}

fn key(object: &Object) -> (&str, &str) {
    (object.kind, &object.name)
}

fn entry(op: Op, object: &Object, fields: Vec<Field>) -> Entry {
    Entry {
        op,
        kind: object.kind.to_owned(),
        name: object.name.clone(),
        fields,
        restart: None,
    }
}

fn values(value: &Value) -> Vec<String> {
    match value {
        Value::One(one) => vec![one.clone()],
        Value::Set(many) | Value::List(many) => many.clone(),
    }
}

fn all(object: &Object, goes: bool) -> Vec<Field> {
    let fields = object.fields.iter().map(|(name, value)| {
        let (old, new) = match goes {
            true => (values(value), Vec::new()),
            false => (Vec::new(), values(value)),
        };
        let name = (*name).to_owned();
        Field { name, old, new }
    });
    fields.collect()
}

fn changed(was: &Object, is: &Object) -> Vec<Field> {
    let before: BTreeMap<&str, &Value> = was.fields.iter().map(|(n, v)| (*n, v)).collect();
    let after: BTreeMap<&str, &Value> = is.fields.iter().map(|(n, v)| (*n, v)).collect();
    let gone = was
        .fields
        .iter()
        .filter(|(name, _)| !after.contains_key(name));
    let names = is.fields.iter().chain(gone).map(|(name, _)| *name);
    names
        .filter_map(|name| {
            let (old, new) = (before.get(name), after.get(name));
            let (old, new) = match (old, new) {
                (Some(Value::Set(old)), Some(Value::Set(new))) => {
                    let without = |of: &[String], other: &[String]| -> Vec<String> {
                        of.iter().filter(|v| !other.contains(v)).cloned().collect()
                    };
                    (without(old, new), without(new, old))
                }
                (old, new) if old == new => return None,
                (old, new) => (
                    old.map(|v| values(v)).unwrap_or_default(),
                    new.map(|v| values(v)).unwrap_or_default(),
                ),
            };
            let same = old.is_empty() && new.is_empty();
            let name = name.to_owned();
            (!same).then_some(Field { name, old, new })
        })
        .collect()
}

/// Keys that differ in their salt only have one fingerprint.
fn salts(old: &Config, new: &Config, entries: &mut Vec<Entry>) {
    for sa in &new.security_associations {
        let twin = old.security_associations.iter().find(|was| {
            was.direction == sa.direction
                && was.key.fingerprint() == sa.key.fingerprint()
                && was.key != sa.key
        });
        if twin.is_none() {
            continue;
        }
        let direction = match sa.direction {
            Direction::Inbound => "inbound",
            Direction::Outbound => "outbound",
        };
        entries.push(Entry {
            op: Op::Change,
            kind: "salt".to_owned(),
            name: format!("of {direction} key {}", sa.key.fingerprint()),
            fields: Vec::new(),
            restart: None,
        });
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.op {
            Op::Add => '+',
            Op::Remove => '-',
            Op::Change => '~',
        };
        write!(f, "{sign} {}", self.kind)?;
        if !self.name.is_empty() {
            write!(f, " {}", self.name)?;
        }
        writeln!(f)?;
        for field in &self.fields {
            field.write(f, self.op)?;
        }
        match &self.restart {
            Some(why) => writeln!(f, "    ! needs a restart: {why}"),
            None => Ok(()),
        }
    }
}

impl Field {
    fn write(&self, f: &mut fmt::Formatter<'_>, op: Op) -> fmt::Result {
        let name = &self.name;
        match (op, self.old.as_slice(), self.new.as_slice()) {
            (Op::Add, _, []) | (Op::Remove, [], _) => Ok(()),
            (Op::Add, _, values) | (Op::Remove, values, _) => {
                writeln!(f, "    {name}: {}", values.join(", "))
            }
            (Op::Change, [old], [new]) => writeln!(f, "    {name}: {old} -> {new}"),
            (Op::Change, old, new) => {
                writeln!(f, "    {name}:")?;
                old.iter().try_for_each(|v| writeln!(f, "      - {v}"))?;
                new.iter().try_for_each(|v| writeln!(f, "      + {v}"))
            }
        }
    }
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| entry.fmt(f))
    }
}

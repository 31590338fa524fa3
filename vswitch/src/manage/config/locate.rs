//! From a key path to its line: the text is read once more and the walk stopped at the key.
//!
//! The YAML library gives no positions with values, but it stamps an error with the place it
//! happened at. So this walk fails on purpose where the key is, in the same parser that read
//! the values: flow style, quoting and aliases need no second understanding of YAML.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::problem::{KeyPath, Position, Step};

/// The error that means "here".
const HERE: &str = "\u{1}here";

/// Position of the last key of `path`, or of the list element it ends with; else of the
/// nearest thing around it that the text does have. `None` if it has nothing of the path.
pub(super) fn locate(text: &str, path: &KeyPath) -> Option<Position> {
    let mut steps = path.0.as_slice();
    loop {
        let found = Walk {
            steps,
            at: Target::Value,
        }
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()
        .filter(is_here)
        .and_then(|error| error.location())
        .map(|at| Position {
            line: at.line(),
            column: at.column(),
        });
        match (found, steps.split_last()) {
            (Some(position), _) => return Some(position),
            (None, Some((_, around))) if !around.is_empty() => steps = around,
            _ => return None,
        }
    }
}

fn is_here(error: &serde_yaml::Error) -> bool {
    error.to_string().contains(HERE)
}

#[derive(Clone, Copy)]
enum Target {
    /// A value: go in, or stop if this is where the path ends.
    Value,
    /// The key of a mapping: `Ok` tells whether it is the next step.
    Key,
}

#[derive(Clone, Copy)]
struct Walk<'a> {
    steps: &'a [Step],
    at: Target,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    /// For a key, whether it is the one looked for.
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.steps.is_empty() {
            true => f.write_str(HERE),
            false => f.write_str("something else"),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        match (self.at, self.steps) {
            (Target::Key, [Step::Key(key)]) if *key == text => Err(E::custom(HERE)),
            (Target::Key, [Step::Key(key), ..]) => Ok(*key == text),
            (Target::Value, []) => Err(E::custom(HERE)),
            _ => Ok(false),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
        if self.steps.is_empty() {
            return Err(A::Error::custom(HERE));
        }
        let (inner, key) = match (self.at, self.steps) {
            (Target::Value, [Step::Key(_), inner @ ..]) => (inner, self.steps),
            _ => return drain_map(map),
        };
        while let Some(hit) = map.next_key_seed(Walk {
            steps: key,
            at: Target::Key,
        })? {
            if hit {
                map.next_value_seed(Walk {
                    steps: inner,
                    at: Target::Value,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(false)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        if self.steps.is_empty() {
            return Err(A::Error::custom(HERE));
        }
        let mut index = 0;
        loop {
            let more = match (self.at, self.steps) {
                (Target::Value, [Step::Index(wanted), inner @ ..]) if *wanted == index => seq
                    .next_element_seed(Walk {
                        steps: inner,
                        at: Target::Value,
                    })?
                    .is_some(),
                _ => seq.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                return Ok(false);
            }
            index += 1;
        }
    }
}

fn drain_map<'de, A: MapAccess<'de>>(mut map: A) -> Result<bool, A::Error> {
    while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(false)
}

/// Position of the first key that its mapping had already.
pub(super) fn second_of_a_key(text: &str) -> Option<Position> {
    let walked = Repeated { seen: None }.deserialize(serde_yaml::Deserializer::from_str(text));
    let at = walked.err().filter(is_here)?.location()?;
    Some(Position {
        line: at.line(),
        column: at.column(),
    })
}

/// Looks for a repeated key in everything; at a key, among those `seen`.
struct Repeated<'a> {
    seen: Option<&'a mut HashSet<String>>,
}

impl<'de> DeserializeSeed<'de> for Repeated<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.seen {
            Some(_) => deserializer.deserialize_str(self),
            None => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Repeated<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        match self.seen.is_none_or(|seen| seen.insert(text.to_owned())) {
            true => Ok(()),
            false => Err(E::custom(HERE)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while map
            .next_key_seed(Repeated {
                seen: Some(&mut seen),
            })?
            .is_some()
        {
            map.next_value_seed(Repeated { seen: None })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Repeated { seen: None })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# a comment
nve: {name: a}
vns:
  - name: blue
    mappings:
      - {mac: x, ips: [10.0.0.1,
           10.0.0.2]}
      - mac: y
        \"ips\": []
  - name: red
    vni: 7
copy: &c
  vni: 9
again: *c
";

    #[test]
    fn finds_keys_and_elements() {
        let vns = KeyPath::root().key("vns");
        let blue = vns.index(0);
        let maps = blue.key("mappings");
        for (path, line, column) in [
            (KeyPath::root().key("nve").key("name"), 2, 7),
            (vns.clone(), 3, 1),
            (blue.clone(), 4, 5),
            (blue.key("name"), 4, 5),
            (maps.index(0).key("ips").index(1), 7, 12),
            (maps.index(0).key("ips"), 6, 18),
            (maps.index(1).key("mac"), 8, 9),
            (maps.index(1).key("ips"), 9, 9),
            (vns.index(1).key("vni"), 11, 5),
            // Not there: the nearest thing around it.
            (vns.index(1).key("edges"), 10, 5),
            (vns.index(9), 3, 1),
            (KeyPath::root().key("again").key("vni"), 13, 3),
        ] {
            assert_eq!(
                locate(TEXT, &path),
                Some(Position { line, column }),
                "{path}"
            );
        }
        assert_eq!(locate(TEXT, &KeyPath::root().key("peers").index(0)), None);
        assert_eq!(locate("a: [", &vns), None);
    }
}

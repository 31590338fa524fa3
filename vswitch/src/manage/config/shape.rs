//! From text to the raw types, and from the YAML library's errors to ours.

use super::locate::second_of_a_key;
use super::names::{nearest, suggestion};
use super::problem::{Position, Problem};
use super::raw;

/// Reads the shape of the file: YAML, known keys, the right types.
pub(super) fn read(text: &str) -> Result<raw::File, Problem> {
    let blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    };
    if text.lines().all(blank) {
        return Err(Problem {
            position: None,
            key: String::new(),
            message: "is empty: at least `nve: {name: …}` is needed".to_owned(),
        });
    }
    serde_yaml::from_str(text).map_err(|error| explain(&error, text))
}

fn explain(error: &serde_yaml::Error, text: &str) -> Problem {
    let position = error.location().map(|at| Position {
        line: at.line(),
        column: at.column(),
    });
    let full = error.to_string();
    // The library says the position once more; of a nested one ("while parsing … at …") too.
    let message = match position {
        Some(Position { line, column }) => full
            .replace(&format!(" at line {line} column {column}"), "")
            .replace(&format!(", line: {line}, column: {column}"), ""),
        None => full,
    };
    let (key, message) = split_key(&message);
    // The library gives the place of the mapping, not of the key.
    let position = match message.starts_with("duplicate field") {
        true => second_of_a_key(text).or(position),
        false => position,
    };
    Problem {
        position,
        key: key.to_owned(),
        message: improve(message, position, text),
    }
}

/// The library puts the path before the message: `vns[0].vni: invalid type`.
fn split_key(message: &str) -> (&str, &str) {
    match message.split_once(": ") {
        Some((key, rest))
            if !key.is_empty()
                && key
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.[]?".contains(&b)) =>
        {
            (key, rest)
        }
        _ => ("", message),
    }
}

fn improve(message: &str, position: Option<Position>, text: &str) -> String {
    for (kind, label) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some((wrong, rest)) = message
            .strip_prefix(kind)
            .and_then(|rest| rest.split_once('`'))
        else {
            continue;
        };
        if wrong == "<<" {
            return "merge keys (`<<`) are not supported: write the keys out".to_owned();
        }
        // Every second piece between backticks is a name.
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return match nearest(wrong, known.iter().copied()) {
            Some(_) => format!("unknown {label} `{wrong}`: {}", suggestion(wrong, &known)),
            None => format!("unknown {label} `{wrong}`{rest}"),
        };
    }
    if let Some(rest) = message.strip_prefix("missing field `") {
        return format!("missing key `{rest}");
    }
    if let Some(rest) = message.strip_prefix("duplicate field `") {
        return format!("the key `{} appears twice", rest);
    }
    if message.contains("more than one document") {
        return "more than one document (`---`): there must be one".to_owned();
    }
    let wanted = message
        .replace("expected struct ", "expected the keys of `")
        .replace("expected a sequence", "expected a list")
        .replace("expected field identifier", "expected a key")
        .replace(" as u128", "")
        .replace(" as i128", "")
        .replace("expected u64", "expected a whole number");
    let wanted = match wanted.split_once("expected the keys of `") {
        Some((before, _)) => format!("{before}expected keys with values"),
        None => wanted,
    };
    let hint = if wanted.ends_with("expected a string")
        && !wanted.contains("sequence")
        && !wanted.contains("map")
    {
        "; put it in quotes"
    } else if wanted.contains("unit value") && wanted.ends_with("expected a list") {
        "; write [] for an empty list"
    } else if tab_at(text, position) {
        "; there is a tab: indent with spaces"
    } else {
        ""
    };
    format!("{wanted}{hint}")
}

/// Whether the line, or the one before it, is indented with a tab.
fn tab_at(text: &str, position: Option<Position>) -> bool {
    let Some(Position { line, .. }) = position else {
        return false;
    };
    text.lines()
        .skip(line.saturating_sub(2))
        .take(2)
        .any(|line| {
            line.trim_start_matches([' ', '\t']).len() < line.len()
                && line
                    .chars()
                    .take_while(|c| c.is_whitespace())
                    .any(|c| c == '\t')
        })
}

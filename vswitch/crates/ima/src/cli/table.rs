//! Rows under headings, for people and as JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::Value;

/// A table with a heading for each column; `Null` is shown as `-`.
pub(super) struct Table {
    pub(super) heads: &'static [&'static str],
    pub(super) rows: Vec<Vec<Value>>,
}

impl Table {
    pub(super) fn text(&self) -> String {
        let cell = |value: &Value| match value {
            Value::Null => "-".to_owned(),
            Value::String(text) if text.is_empty() => "-".to_owned(),
            Value::String(text) => text.clone(),
            Value::Array(items) => {
                let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                if items.is_empty() {
                    "-".to_owned()
                } else {
                    items.join(" ")
                }
            }
            Value::Bool(true) => "yes".to_owned(),
            Value::Bool(false) => "no".to_owned(),
            other => other.to_string(),
        };
        let mut rows: Vec<Vec<String>> =
            vec![self.heads.iter().map(|head| head.to_uppercase()).collect()];
        rows.extend(self.rows.iter().map(|row| row.iter().map(cell).collect()));
        let mut widths = vec![0; self.heads.len()];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut text = String::new();
        for row in rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                // Writing to a string does not fail.
                let _ = write!(line, "{cell:width$}  ", width = *width);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let row = |row: &Vec<Value>| {
            self.heads
                .iter()
                .zip(row)
                .map(|(head, value)| ((*head).to_owned(), value.clone()))
                .collect()
        };
        Value::Array(
            self.rows
                .iter()
                .map(|cells| Value::Object(row(cells)))
                .collect(),
        )
    }

    pub(super) fn print(&self, as_json: bool) -> io::Result<()> {
        if as_json {
            writeln!(io::stdout(), "{}", self.json())
        } else {
            write!(io::stdout(), "{}", self.text())
        }
    }
}

//! What a benchmark reports, in one form for all of them: JSON lines for programs, and a
//! plain table for people.

use std::io::{self, Write};

use serde::Serialize;

use crate::machine::Machine;

/// One figure.
#[derive(Debug, Clone, Serialize)]
pub struct Record {
    /// The benchmark's name, as its subcommand.
    pub bench: &'static str,
    /// What was measured, `/` between its parts: `tenant-to-underlay/aes-128-gcm`.
    pub case: String,
    /// The part of it that the figure is of: `total`, or a stage of the pipeline.
    pub part: &'static str,
    /// Size of one item in bytes; for packets, the inner Ethernet frame without FCS.
    pub bytes: usize,
    /// What `value` counts: `ticks/packet`, `ns/packet`, `ticks/burst`.
    pub unit: &'static str,
    /// Which of the measurements: `median`, `min`, `p50`, `p99`.
    pub stat: &'static str,
    /// The figure.
    pub value: f64,
}

/// A record with where it was measured, so that every line stands for itself.
#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    record: &'a Record,
    machine: &'a Machine,
}

/// Writes one JSON object per line.
pub fn write_json(
    out: &mut impl Write,
    records: &[Record],
    machine: &Machine,
) -> anyhow::Result<()> {
    for record in records {
        serde_json::to_writer(&mut *out, &Line { record, machine })?;
        writeln!(out)?;
    }
    Ok(())
}

/// A table in Markdown, columns aligned: the same text serves a terminal and a document.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings. The first column is text, the others are figures.
    pub fn new<S: Into<String>>(headings: impl IntoIterator<Item = S>) -> Self {
        Table {
            rows: vec![headings.into_iter().map(Into::into).collect()],
        }
    }

    /// Adds a row.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// Writes it.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
                .max(3)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for (i, row) in self.rows.iter().enumerate() {
            write!(out, "|")?;
            for (column, width) in widths.iter().enumerate() {
                let cell = row.get(column).map_or("", String::as_str);
                match column {
                    0 => write!(out, " {cell:<width$} |")?,
                    _ => write!(out, " {cell:>width$} |")?,
                }
            }
            writeln!(out)?;
            if i == 0 {
                write!(out, "|")?;
                for (column, width) in widths.iter().enumerate() {
                    let dashes = "-".repeat(*width);
                    write!(out, " {dashes}{}|", if column == 0 { " " } else { ":" })?;
                }
                writeln!(out)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(["path", "64 B"]);
        table.row(["in", "7"]);
        let mut out = Vec::new();
        table.write(&mut out).expect("a vector takes everything");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text, "| path | 64 B |\n| ---- | ----:|\n| in   |    7 |\n");
    }
}

//! Plain tables: a header, aligned columns, two spaces between them, no frames, so that both
//! people and `awk` can read them. A cell may have several lines.

use std::fmt;

/// Where a column's text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::manage) enum Align {
    /// For text.
    Left,
    /// For numbers.
    Right,
}

pub(in crate::manage) use Align::{Left, Right};

/// Text of one cell, one string a line; `-` if there is none.
#[derive(Debug, Clone)]
pub(in crate::manage) struct Cell(Vec<String>);

impl Cell {
    /// `items` with spaces between, on as many lines of at most `width` characters as it
    /// takes. An item is not broken, however long.
    pub(in crate::manage) fn list<T: ToString>(
        items: impl IntoIterator<Item = T>,
        width: usize,
    ) -> Self {
        let mut lines: Vec<String> = Vec::new();
        for item in items {
            let item = printable(&item.to_string());
            match lines.last_mut() {
                Some(line) if length(line) + 1 + length(&item) <= width => {
                    line.push(' ');
                    line.push_str(&item);
                }
                _ => lines.push(item),
            }
        }
        if lines.is_empty() {
            lines.push("-".to_owned());
        }
        Self(lines)
    }

    /// `items`, each on its line.
    pub(in crate::manage) fn lines<T: ToString>(items: impl IntoIterator<Item = T>) -> Self {
        Self::list(items, 0)
    }

    /// What there is, or `-`.
    pub(in crate::manage) fn option<T: ToString>(item: Option<T>) -> Self {
        Self::lines(item)
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(item: T) -> Self {
        let text = item.to_string();
        Self::lines((!text.is_empty()).then_some(text))
    }
}

/// A table.
#[derive(Debug)]
pub(in crate::manage) struct Table<const N: usize> {
    columns: [(&'static str, Align); N],
    rows: Vec<[Cell; N]>,
}

impl<const N: usize> Table<N> {
    /// One without rows.
    pub(in crate::manage) fn new(columns: [(&'static str, Align); N]) -> Self {
        Self {
            columns,
            rows: Vec::new(),
        }
    }

    /// Adds a row below.
    pub(in crate::manage) fn row(&mut self, cells: [Cell; N]) {
        self.rows.push(cells);
    }
}

impl<const N: usize> fmt::Display for Table<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut widths = self.columns.map(|(title, _)| length(title));
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                let widest = cell.0.iter().map(|line| length(line)).max().unwrap_or(0);
                *width = (*width).max(widest);
            }
        }
        let aligns = self.columns.map(|(_, align)| align);
        let layout: Vec<(usize, Align)> = widths.into_iter().zip(aligns).collect();
        write_line(f, &layout, self.columns.iter().map(|(title, _)| *title))?;
        for row in &self.rows {
            let height = row.iter().map(|cell| cell.0.len()).max().unwrap_or(0);
            for n in 0..height {
                let line = row
                    .iter()
                    .map(|cell| cell.0.get(n).map_or("", String::as_str));
                write_line(f, &layout, line)?;
            }
        }
        Ok(())
    }
}

fn write_line<'a>(
    f: &mut fmt::Formatter<'_>,
    layout: &[(usize, Align)],
    texts: impl Iterator<Item = &'a str>,
) -> fmt::Result {
    let mut line = String::new();
    for (&(width, align), text) in layout.iter().zip(texts) {
        match align {
            Left => line.push_str(&format!("{text:<width$}  ")),
            Right => line.push_str(&format!("{text:>width$}  ")),
        }
    }
    writeln!(f, "{}", line.trim_end())
}

fn length(text: &str) -> usize {
    text.chars().count()
}

/// `text` without what a terminal would take for a command.
pub(in crate::manage) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_lines_not_padded() {
        let mut table = Table::new([("NAME", Left), ("COUNT", Right), ("WHY", Left)]);
        table.row(["a".into(), 5.into(), "".into()]);
        table.row([
            "long name".into(),
            1_234_567.into(),
            Cell::list(["x", "y"], 9),
        ]);
        let expected = "\
NAME         COUNT  WHY
a                5  -
long name  1234567  x y
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn lists_break_between_items() {
        let mut table = Table::new([("LIST", Left), ("N", Right)]);
        table.row([Cell::list(["aaa", "bbb", "cccccccccc", "d"], 7), 1.into()]);
        table.row([Cell::lines(["x", "y"]), 22.into()]);
        let expected = "\
LIST         N
aaa bbb      1
cccccccccc
d
x           22
y
";
        assert_eq!(table.to_string(), expected);
    }

    #[test]
    fn a_name_cannot_command_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\\u{1b}[2Jb\\n");
        assert_eq!(printable("größe"), "größe");
    }
}

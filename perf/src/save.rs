//! Figures that are kept: JSON lines, the tables, and pictures, beside one another.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use anyhow::Context;

use crate::machine::Machine;
use crate::plot::{Plot, Series};
use crate::report::{Record, write_json};

/// A picture of some of the records.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Its file's name behind the benchmark's, without extension.
    pub name: &'static str,
    /// Above it.
    pub title: &'static str,
    /// Along the logarithmic axis.
    pub x: &'static str,
    /// Along the other.
    pub y: &'static str,
    /// Its lines.
    pub series: Vec<Series>,
}

/// Writes `BENCH.jsonl`, `BENCH.md` and `BENCH-NAME.svg` for every picture into `dir`.
pub fn save(
    dir: &Path,
    bench: &str,
    records: &[Record],
    machine: &Machine,
    tables: &[u8],
    pictures: &[Picture],
) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let at = |name: String| dir.join(name);
    let mut json = BufWriter::new(File::create(at(format!("{bench}.jsonl")))?);
    write_json(&mut json, records, machine)?;
    json.flush()?;
    fs::write(at(format!("{bench}.md")), tables)?;
    let words = machine.to_string();
    for picture in pictures {
        let plot = Plot {
            title: picture.title,
            machine: &words,
            x: picture.x,
            y: picture.y,
        };
        plot.draw(
            &at(format!("{bench}-{}.svg", picture.name)),
            &picture.series,
        )?;
    }
    Ok(())
}

//! Writes the inputs that fuzzing begins with: `fuzz-seeds DIRECTORY` makes a directory of
//! files in it for each target.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use pmd_tests::fuzz::TARGETS;

fn main() -> Result<(), Box<dyn Error>> {
    let root = std::env::args_os()
        .nth(1)
        .ok_or("usage: fuzz-seeds DIRECTORY")?;
    for target in TARGETS {
        let dir = PathBuf::from(&root).join(target.name);
        fs::create_dir_all(&dir)?;
        for (i, seed) in (target.seeds)().iter().enumerate() {
            fs::write(dir.join(format!("seed-{i}")), seed)?;
        }
    }
    Ok(())
}

//! `timing`: whether the time that AES-GCM takes depends on what must stay secret, tested by
//! statistics for every backend that this CPU can run.
//!
//! A test can find a leak and cannot prove that there is none; the argument for that is in
//! docs/security.md. So that silence means something, a comparison that leaks by intent is put
//! behind each backend, and the run fails unless that is found.

pub mod bench;
pub mod dudect;

use std::io::Write;

use anyhow::{Context, anyhow, ensure};
use clap::Args;
use vswitch::dpdk::eal::{Eal, EalConfig, LogLevel};
use vswitch::dpdk::hugepages::Memory;
use vswitch::dpdk::thread::{allowed_cores, spawn_worker};
use vswitch::dpdk::time::TscClock;
use vswitch_aead::{Algorithm, Backend};

use crate::aead::measure::algorithm_name;
use crate::machine::Machine;
use crate::options::Report;
use crate::report::{Record, Table};
use bench::{Bench, Question, Shape, typical};
use dudect::{Found, LEAKS, SUSPECT, Verdict};

/// Name of the benchmark.
pub const NAME: &str = "timing";

/// Many short packets, some middling ones, a long one.
pub const SHAPES: [Shape; 3] = [
    Shape {
        jobs: 32,
        bytes: 64,
    },
    Shape {
        jobs: 4,
        bytes: 512,
    },
    Shape {
        jobs: 1,
        bytes: 1420,
    },
];

const ALGORITHMS: [Algorithm; 2] = [Algorithm::Aes128Gcm, Algorithm::Aes256Gcm];

/// What is suspect is measured again, with so many times as many measurements.
const AGAIN: usize = 4;

/// Options of the benchmark.
#[derive(Debug, Clone, Args)]
pub struct Options {
    #[command(flatten)]
    report: Report,
    /// Measurements of each case, both classes together.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1000..))]
    samples: u32,
    /// Only this backend.
    #[arg(long, value_name = "NAME")]
    aead: Option<String>,
    /// The CPU to measure on; without it, the last that may be used.
    #[arg(long, value_name = "CPU")]
    core: Option<usize>,
}

/// One case's answer.
struct Answer {
    backend: &'static str,
    algorithm: Algorithm,
    question: Question,
    shape: Shape,
    found: Found,
    /// Median ticks of both classes.
    typical: f64,
    samples: usize,
}

/// Runs the test and prints what it found; an error if anything leaks, or the control does not.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let backends: Vec<&'static dyn Backend> = match options.aead.as_deref() {
        Some(name) => vec![vswitch_aead::select(Some(name))?],
        None => vswitch_aead::backends().collect(),
    };
    let eal = Eal::init(&EalConfig {
        memory: Memory::NoHuge,
        memory_mb: 64,
        log_level: LogLevel::Error,
        ..EalConfig::default()
    })?;
    let cores = allowed_cores();
    let core = options.core.or(cores.last().copied());
    let core = core.context("no CPU to measure on")?;
    let name = backends.first().context("no backend")?.name();
    let hz = TscClock::new()?.hz();
    let machine = Machine::here(core, cores.len(), hz, eal.hugepages(), name);
    let (samples, algorithms, shapes) = match options.report.quick {
        true => (4000, ALGORITHMS.split_at(1).0, SHAPES.split_at(1).0),
        false => (options.samples as usize, &ALGORITHMS[..], &SHAPES[..]),
    };
    let thread = spawn_worker("bench", core, move |_| {
        let mut answers = Vec::new();
        for backend in backends {
            for &algorithm in algorithms {
                for &shape in shapes {
                    for question in Question::ALL {
                        answers.push(ask(backend, algorithm, question, shape, samples)?);
                    }
                }
            }
        }
        anyhow::Ok(answers)
    })?;
    let answers = thread
        .join()
        .map_err(|_| anyhow!("the measuring thread panicked"))??;
    let records: Vec<Record> = answers.iter().flat_map(Answer::records).collect();
    let mut text = Vec::new();
    write(&mut text, &answers, &machine)?;
    let report = &options.report;
    report.publish(NAME, &records, &machine, &text, &[])?;
    judge(&answers)
}

fn ask(
    backend: &'static dyn Backend,
    algorithm: Algorithm,
    question: Question,
    shape: Shape,
    samples: usize,
) -> anyhow::Result<Answer> {
    let mut bench = Bench::new(backend, algorithm, question, shape);
    let mut once = |samples| -> anyhow::Result<(Found, f64)> {
        let times = bench.measure(samples)?;
        let found = dudect::test(&times).context("too few measurements")?;
        Ok((found, typical(&times)?))
    };
    let (mut of, mut last) = (samples, once(samples)?);
    // A chance finding in one of a hundred croppings does not come again; a leak does, larger.
    if Verdict::of(last.0.t) != Verdict::Clean && question != Question::Control {
        of *= AGAIN;
        last = once(of)?;
    }
    Ok(Answer {
        backend: backend.name(),
        algorithm,
        question,
        shape,
        found: last.0,
        typical: last.1,
        samples: of,
    })
}

impl Answer {
    fn verdict(&self) -> Verdict {
        Verdict::of(self.found.t)
    }

    /// `portable/aes-128-gcm/seal-data/batch-32`
    fn case(&self) -> String {
        let algorithm = algorithm_name(self.algorithm);
        let (backend, question) = (self.backend, self.question.name());
        format!("{backend}/{algorithm}/{question}/batch-{}", self.shape.jobs)
    }

    fn records(&self) -> Vec<Record> {
        let record = |part, unit, stat, value| Record {
            bench: NAME,
            case: self.case(),
            part,
            bytes: self.shape.bytes,
            unit,
            stat,
            value,
        };
        vec![
            record("t", "t", "max", self.found.t),
            record("difference", "ticks/call", "mean", self.found.ticks),
            record("total", "ticks/call", "median", self.typical),
            record("kept", "share", "of-samples", self.found.kept),
            record("samples", "calls", "count", self.samples as f64),
        ]
    }
}

fn write(out: &mut impl Write, answers: &[Answer], machine: &Machine) -> anyhow::Result<()> {
    writeln!(out, "{machine}\n")?;
    writeln!(
        out,
        "Largest |t| of Welch's test over all croppings, of two classes of input: up to {SUSPECT} \
         no evidence, above {LEAKS} the time depends on the class. `{}` leaks by intent and must \
         be found.\n",
        Question::Control.name()
    )?;
    let head = [
        "case",
        "classes",
        "bytes",
        "t",
        "difference, ticks",
        "of",
        "kept",
        "calls",
        "verdict",
    ];
    let mut table = Table::new(head);
    for answer in answers {
        table.row([
            answer.case(),
            answer.question.classes().to_owned(),
            answer.shape.bytes.to_string(),
            format!("{:+.1}", answer.found.t),
            format!("{:+.2}", answer.found.ticks),
            format!("{:.0}", answer.typical),
            format!("{:.1} %", answer.found.kept * 100.0),
            answer.samples.to_string(),
            answer.verdict().name().to_owned(),
        ]);
    }
    Ok(table.write(out)?)
}

/// Whether all is as it must be.
fn judge(answers: &[Answer]) -> anyhow::Result<()> {
    let (mut leaks, mut blind) = (Vec::new(), Vec::new());
    for answer in answers {
        match (answer.question, answer.verdict()) {
            (Question::Control, Verdict::Leaks) => {}
            (Question::Control, _) => blind.push(answer.case()),
            (_, Verdict::Leaks) => leaks.push(answer.case()),
            (_, Verdict::Clean | Verdict::Suspect) => {}
        }
    }
    ensure!(leaks.is_empty(), "time depends on secrets: {leaks:?}");
    ensure!(
        blind.is_empty(),
        "the leak that is there by intent was not found, so nothing is shown (a busy machine? \
         more --samples): {blind:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(question: Question, t: f64) -> Answer {
        Answer {
            backend: "some",
            algorithm: Algorithm::Aes128Gcm,
            question,
            shape: SHAPES[0],
            found: Found {
                t,
                ticks: 1.0,
                kept: 1.0,
            },
            typical: 100.0,
            samples: 1000,
        }
    }

    #[test]
    fn a_leak_and_a_blind_test_both_fail() {
        let seen = || answer(Question::Control, -30.0);
        assert!(judge(&[seen(), answer(Question::OpenTag, 6.0)]).is_ok());
        let leak = judge(&[seen(), answer(Question::OpenTag, -11.0)]).expect_err("a leak");
        assert!(leak.to_string().contains("open-tag"), "{leak}");
        let blind = judge(&[answer(Question::Control, 6.0)]).expect_err("blind");
        assert!(blind.to_string().contains("leaky-control"), "{blind}");
    }
}

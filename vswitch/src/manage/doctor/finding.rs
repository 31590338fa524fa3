//! What a check found, and how a list of findings reads: as text for people, as JSON.

use std::fmt::Write;

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// The switch starts, but slower, or less safely, than it could.
    Warn,
    /// The switch does not start, or not all of it works.
    Fail,
}

impl Level {
    /// As it is printed.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        }
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name, such as `hugepages`.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub found: String,
    /// Why it matters; empty if all is well.
    pub why: String,
    /// Commands that mend it, one after the other; a line that begins with `#` is advice for
    /// what no command can do. Empty if all is well.
    pub mend: Vec<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Finding {
            check,
            level: Level::Ok,
            found: found.into(),
            why: String::new(),
            mend: Vec::new(),
        }
    }

    /// It works, but.
    pub fn warn(check: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Finding {
            level: Level::Warn,
            why: why.into(),
            ..Finding::ok(check, found)
        }
    }

    /// It does not work.
    pub fn fail(check: &'static str, found: impl Into<String>, why: impl Into<String>) -> Self {
        Finding {
            level: Level::Fail,
            ..Finding::warn(check, found, why)
        }
    }

    /// `fail` or `warn`.
    pub fn bad(
        level: Level,
        check: &'static str,
        found: impl Into<String>,
        why: impl Into<String>,
    ) -> Self {
        Finding {
            level,
            ..Finding::warn(check, found, why)
        }
    }

    /// Adds a command that mends it.
    #[must_use]
    pub fn mend(mut self, command: impl Into<String>) -> Self {
        self.mend.push(command.into());
        self
    }

    /// On one line, for a log: what, why, and what to do.
    pub fn line(&self) -> String {
        let mut line = self.found.clone();
        if !self.why.is_empty() {
            let _ = write!(line, ": {}", self.why);
        }
        if !self.mend.is_empty() {
            let _ = write!(line, "; mend it: {}", self.mend.join("; "));
        }
        line
    }
}

/// What a doctor says of a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the findings.
    pub verdict: Level,
    /// In the order of the checks.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Of these findings.
    pub fn new(findings: Vec<Finding>) -> Self {
        let worst = findings.iter().map(|finding| finding.level).max();
        Report {
            verdict: worst.unwrap_or(Level::Ok),
            findings,
        }
    }

    /// How many there are of a level.
    pub fn count(&self, level: Level) -> usize {
        let of_level = |finding: &&Finding| finding.level == level;
        self.findings.iter().filter(of_level).count()
    }

    /// For people: a line for each finding, and beneath it why and the commands.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let names = self.findings.iter().map(|finding| finding.check.len());
        let width = names.max().unwrap_or(0);
        for finding in &self.findings {
            let (level, check) = (finding.level.name(), finding.check);
            let _ = writeln!(out, "{level:<4}  {check:<width$}  {}", finding.found);
            let indent = width + 8;
            if !finding.why.is_empty() {
                let _ = writeln!(out, "{:indent$}{}", "", finding.why);
            }
            for command in &finding.mend {
                let prompt = if command.starts_with('#') { "" } else { "$ " };
                let _ = writeln!(out, "{:indent$}{prompt}{command}", "");
            }
        }
        let (ok, warn, fail) = (
            self.count(Level::Ok),
            self.count(Level::Warn),
            self.count(Level::Fail),
        );
        let _ = writeln!(out, "{ok} ok, {warn} to improve, {fail} to mend");
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_bad_as_its_worst_finding() {
        assert_eq!(Report::new(Vec::new()).verdict, Level::Ok);
        let warn = Finding::warn("b", "two", "because")
            .mend("do it")
            .mend("# or not");
        let report = Report::new(vec![Finding::ok("aaa", "one"), warn.clone()]);
        assert_eq!(report.verdict, Level::Warn);
        assert_eq!(
            report.text(),
            "ok    aaa  one\nwarn  b    two\n           because\n           $ do it\n           \
             # or not\n1 ok, 1 to improve, 0 to mend\n"
        );
        assert_eq!(warn.line(), "two: because; mend it: do it; # or not");
        let worse = Report::new(vec![Finding::fail("c", "x", "y"), warn]);
        assert_eq!(worse.verdict, Level::Fail);
    }
}

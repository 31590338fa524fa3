//! Differences, what was applied, and revisions, as text.

use super::table::{Left, Right, Table, printable};
use crate::manage::api::Difference;
use crate::manage::change::{Applied, How, Revision};

/// What a change would be, or that it would be none.
pub fn difference(difference: &Difference) -> String {
    let Difference {
        revision,
        file,
        of,
        diff,
    } = difference;
    let other = match of {
        Some(of) => format!("revision {of}"),
        None => file.display().to_string(),
    };
    let other = printable(&other);
    if diff.is_empty() {
        return format!("No difference between revision {revision}, which runs, and {other}.\n");
    }
    format!("--- revision {revision}, which runs\n+++ {other}\n{diff}")
}

/// What came of a change.
pub fn applied(applied: &Applied) -> String {
    let revision = applied.revision;
    match (applied.diff.is_empty(), applied.dry_run) {
        (true, _) => format!("Nothing to change: revision {revision} runs.\n"),
        (false, true) => format!("It could be applied. Revision {revision} still runs.\n"),
        (false, false) => format!(
            "Applied: revision {revision} runs. `vswitchctl rollback` goes back to revision {}.\n",
            revision.saturating_sub(1)
        ),
    }
}

/// The history, the running one last.
pub fn revisions(revisions: &[Revision]) -> String {
    let mut table = Table::new([
        ("REVISION", Right),
        ("TIME", Left),
        ("BY", Left),
        ("USER", Right),
        ("PROCESS", Right),
        ("CHANGES", Right),
        ("FILE", Left),
    ]);
    for (i, revision) in revisions.iter().enumerate() {
        let how = match (revision.how, revision.of) {
            (How::Start, _) => "start".to_owned(),
            (How::Apply, _) => "apply".to_owned(),
            (How::Reload, _) => "reload".to_owned(),
            (How::Signal, _) => "SIGHUP".to_owned(),
            (How::Rollback, Some(of)) => format!("rollback to {of}"),
            (How::Rollback, None) => "rollback".to_owned(),
        };
        let running = match i + 1 == revisions.len() {
            true => format!("{} *", revision.number),
            false => format!("{}  ", revision.number),
        };
        let or_none = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        table.row([
            running.into(),
            utc(revision.time).into(),
            how.into(),
            or_none(revision.who.map(|who| who.uid.to_string())).into(),
            or_none(
                revision
                    .who
                    .and_then(|who| who.pid)
                    .map(|pid| pid.to_string()),
            )
            .into(),
            revision.changes.into(),
            revision.file.display().to_string().into(),
        ]);
    }
    format!("{table}\n* runs\n")
}

/// Seconds since 1970 as RFC 3339 has it (section 5.6), in UTC.
fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years of 365.2425 days from March on, so that the leap day is the last of a year.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!(
        "{:04}-{month:02}-{of_month:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + next,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right() {
        // As `date -u -d @N +%FT%TZ` prints them.
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}

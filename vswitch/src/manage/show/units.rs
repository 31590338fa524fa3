//! Numbers as people read them.

/// Bytes, in powers of 1000, cut (not rounded) to one decimal: never more than there were.
pub(in crate::manage) fn bytes(n: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if n < 1000 {
        return format!("{n} B");
    }
    let mut tenths = n / 100;
    let mut name = "kB";
    for unit in UNITS {
        name = unit;
        if tenths < 10_000 {
            break;
        }
        tenths /= 1000;
    }
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Bytes of memory, in powers of 1024, cut to one decimal.
pub(in crate::manage) fn memory(n: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 1_u64;
    let mut name = "B";
    for next in UNITS {
        if n / unit < 1024 {
            break;
        }
        (unit, name) = (unit << 10, next);
    }
    if unit == 1 {
        return format!("{n} B");
    }
    let tenths = u128::from(n) * 10 / u128::from(unit);
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

/// Nanoseconds, in the unit that leaves at most three digits before the point.
pub(in crate::manage) fn time(ns: u64) -> String {
    match ns {
        0..=999 => format!("{ns} ns"),
        1_000..=999_999 => format!("{}.{} us", ns / 1_000, ns / 100 % 10),
        1_000_000..=999_999_999 => format!("{}.{} ms", ns / 1_000_000, ns / 100_000 % 10),
        _ => format!("{}.{} s", ns / 1_000_000_000, ns / 100_000_000 % 10),
    }
}

/// Seconds, as `3d 04:05:06`.
pub(in crate::manage) fn duration(seconds: u64) -> String {
    let clock = format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600 % 24,
        seconds / 60 % 60,
        seconds % 60
    );
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}d {clock}"),
    }
}

/// `part` of `whole` in percent; `-` of nothing. What is little is not shown as none, and
/// what is not all is not shown as all.
pub(in crate::manage) fn share(part: u64, whole: u64) -> String {
    if whole == 0 {
        return "-".to_owned();
    }
    match u128::from(part) * 1000 / u128::from(whole) {
        0 if part > 0 => "<0.1%".to_owned(),
        permille => format!("{}.{}%", permille / 10, permille % 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_change_unit_at_a_thousand() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1000), "1.0 kB");
        assert_eq!(bytes(1_999), "1.9 kB");
        assert_eq!(bytes(999_999), "999.9 kB");
        assert_eq!(bytes(1_000_000), "1.0 MB");
        assert_eq!(bytes(12_345_678_901), "12.3 GB");
        assert_eq!(bytes(u64::MAX), "18.4 EB");
    }

    #[test]
    fn memory_changes_unit_at_1024() {
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory(1024), "1.0 KiB");
        assert_eq!(memory((1 << 20) - 1), "1023.9 KiB");
        assert_eq!(memory(3 << 29), "1.5 GiB");
        assert_eq!(memory(u64::MAX), "16383.9 PiB");
    }

    #[test]
    fn times_keep_three_digits_at_most() {
        assert_eq!(time(0), "0 ns");
        assert_eq!(time(999), "999 ns");
        assert_eq!(time(1_950), "1.9 us");
        assert_eq!(time(999_999), "999.9 us");
        assert_eq!(time(12_345_678), "12.3 ms");
        assert_eq!(time(1 << 30), "1.0 s");
    }

    #[test]
    fn durations_have_days_when_there_are_some() {
        assert_eq!(duration(0), "00:00:00");
        assert_eq!(duration(86_399), "23:59:59");
        assert_eq!(duration(3 * 86_400 + 4 * 3600 + 5 * 60 + 6), "3d 04:05:06");
    }

    #[test]
    fn shares_do_not_hide_the_little() {
        assert_eq!(share(0, 10), "0.0%");
        assert_eq!(share(1, 1 << 48), "<0.1%");
        assert_eq!(share(999_999, 1_000_000), "99.9%");
        assert_eq!(share(u64::MAX, u64::MAX), "100.0%");
        assert_eq!(share(1, 0), "-");
    }
}

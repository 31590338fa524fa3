//! Figures from repeated measurements: medians over rounds, percentiles over bursts.

use anyhow::Context;
use hdrhistogram::Histogram;

/// The median; of an even number of values the mean of the middle two. `None` without values.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = *sorted.get(middle.checked_sub(1)?)?;
    Some((lower + upper) / 2.0)
}

/// The least; what the code takes when nothing disturbs it. `None` without values.
pub fn min(values: &[f64]) -> Option<f64> {
    values.iter().copied().min_by(f64::total_cmp)
}

/// Durations of single bursts in ticks: every one counts, so that percentiles show what
/// medians over rounds hide.
#[derive(Debug, Clone)]
pub struct Durations(Histogram<u64>);

impl Durations {
    /// Empty; three significant digits, up to 2³² ticks (a second or two).
    pub fn new() -> anyhow::Result<Self> {
        Histogram::new_with_bounds(1, 1 << 32, 3)
            .map(Durations)
            .context("histogram")
    }

    /// Adds one; what is longer than can be told counts as the longest.
    pub fn record(&mut self, ticks: u64) {
        self.0.saturating_record(ticks.max(1));
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The duration that this share of them (0 to 1) does not exceed.
    pub fn quantile(&self, share: f64) -> u64 {
        self.0.value_at_quantile(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(min(&[3.0, 1.0, 2.0]), Some(1.0));
    }

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut durations = Durations::new().expect("histogram");
        for ticks in 1..=10_000 {
            durations.record(ticks);
        }
        assert_eq!(durations.len(), 10_000);
        assert!(durations.quantile(0.5).abs_diff(5_000) <= 5);
        assert!(durations.quantile(0.99).abs_diff(9_900) <= 10);
        durations.record(u64::MAX);
        assert!(durations.quantile(1.0) >= 1 << 32);
    }
}

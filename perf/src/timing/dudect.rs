//! The statistics of "dude, is my code constant time?" (Reparaz, Balasch, Verbauwhede, DATE
//! 2017): Welch's t-test between the times of two classes of inputs, once over all of them and
//! again with the slowest left out, from several percentiles down.
//!
//! The slowest are those that an interrupt or another process met. They have nothing to do
//! with the input, and their spread hides what has.

/// Below: no evidence of a dependence.
pub const SUSPECT: f64 = 4.5;
/// Above: the time depends on the input.
pub const LEAKS: f64 = 10.0;

/// Percentiles at which the slowest are left out, besides none.
const CROPS: u32 = 100;
/// Measurements of a class that a t-test needs here; with fewer, t is not yet what tables say.
const LEAST: f64 = 200.0;

/// Which of two kinds of input a measurement had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The same every time.
    Fixed,
    /// Another every time; or simply the other one.
    Other,
}

/// What a case's t says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// No evidence.
    Clean,
    /// To be measured again, longer.
    Suspect,
    /// The time depends on the input.
    Leaks,
}

impl Verdict {
    /// Of the largest |t| of a case.
    pub fn of(t: f64) -> Verdict {
        match t.abs() {
            t if t > LEAKS => Verdict::Leaks,
            t if t > SUSPECT => Verdict::Suspect,
            _ => Verdict::Clean,
        }
    }

    /// For tables.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Clean => "no evidence",
            Verdict::Suspect => "look again",
            Verdict::Leaks => "leaks",
        }
    }
}

/// The result of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// The t of largest absolute value; positive if [`Class::Fixed`] took longer.
    pub t: f64,
    /// The difference of the classes' means at that place, in ticks: how large it is, where t
    /// says how certain.
    pub ticks: f64,
    /// Share of the measurements that were kept there.
    pub kept: f64,
}

/// Mean and variance, kept as measurements come in (Welford's method).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    n: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, x: f64) {
        self.n += 1.0;
        let delta = x - self.mean;
        self.mean += delta / self.n;
        self.squares += delta * (x - self.mean);
    }

    /// Variance of the mean.
    fn error(&self) -> f64 {
        self.squares / (self.n - 1.0) / self.n
    }
}

/// Welch's t and the difference of the means; `None` with too few measurements.
fn welch(fixed: Moments, other: Moments) -> Option<(f64, f64)> {
    if fixed.n < LEAST || other.n < LEAST {
        return None;
    }
    let difference = fixed.mean - other.mean;
    let error = (fixed.error() + other.error()).sqrt();
    let t = match (difference == 0.0, error == 0.0) {
        (true, _) => 0.0,
        // Two clocks without noise that differ: as certain as can be.
        (false, true) => f64::MAX.copysign(difference),
        (false, false) => difference / error,
    };
    Some((t, difference))
}

/// The strongest evidence over all croppings; `None` with too few measurements for any.
///
/// Thresholds of cropping are of both classes together, so that they cannot make a difference
/// where there is none.
pub fn test(times: &[(Class, u64)]) -> Option<Found> {
    let mut sorted: Vec<u64> = times.iter().map(|(_, ticks)| *ticks).collect();
    sorted.sort_unstable();
    let crops = (1..=CROPS).map(|i| {
        // As dudect has it: denser towards the slow end.
        let share = 1.0 - 0.5f64.powf(10.0 * f64::from(i) / f64::from(CROPS));
        let place = (sorted.len() as f64 * share) as usize;
        sorted.get(place).copied().unwrap_or(u64::MAX)
    });
    let mut limits: Vec<u64> = crops.chain([u64::MAX]).collect();
    limits.dedup();
    let at = |limit: u64| {
        let (mut fixed, mut other) = (Moments::default(), Moments::default());
        for (class, ticks) in times.iter().filter(|(_, ticks)| *ticks <= limit) {
            match class {
                Class::Fixed => fixed.add(*ticks as f64),
                Class::Other => other.add(*ticks as f64),
            }
        }
        let (t, ticks) = welch(fixed, other)?;
        let kept = (fixed.n + other.n) / times.len().max(1) as f64;
        Some(Found { t, ticks, kept })
    };
    let found = limits.into_iter().filter_map(at);
    found.max_by(|a, b| a.t.abs().total_cmp(&b.t.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Times around 1000 with a spread, interrupts in every hundredth, and `more` in one class.
    fn times(more: u64) -> Vec<(Class, u64)> {
        let mut random = fastrand::Rng::with_seed(7);
        let mut time = || {
            let noise: u64 = (0..4).map(|_| random.u64(0..16)).sum();
            let interrupt = if random.u8(..100) == 0 { 50_000 } else { 0 };
            let fixed = random.bool();
            let class = if fixed { Class::Fixed } else { Class::Other };
            (
                class,
                1000 + noise + interrupt + if fixed { more } else { 0 },
            )
        };
        (0..20_000).map(|_| time()).collect()
    }

    #[test]
    fn equal_classes_are_clean() {
        let found = test(&times(0)).expect("enough");
        assert_eq!(Verdict::of(found.t), Verdict::Clean, "{found:?}");
    }

    #[test]
    fn two_ticks_of_a_thousand_are_seen_through_interrupts() {
        let found = test(&times(2)).expect("enough");
        assert_eq!(Verdict::of(found.t), Verdict::Leaks, "{found:?}");
        assert!(
            found.t > 0.0 && (1.0..3.0).contains(&found.ticks),
            "{found:?}"
        );
        assert!(found.kept < 1.0, "{found:?}");
    }

    #[test]
    fn too_few_prove_nothing() {
        assert_eq!(test(&times(1000)[..300]), None);
        assert_eq!(test(&[]), None);
    }

    #[test]
    fn welch_as_in_textbooks() {
        let of = |values: &[f64]| {
            let mut moments = Moments::default();
            for value in values.iter().cycle().take(values.len() * 100) {
                moments.add(*value);
            }
            moments
        };
        // 300 of each, of variance 200 / 299: t = -1 / sqrt(2 · (200 / 299) / 300).
        let (t, difference) = welch(of(&[1.0, 2.0, 3.0]), of(&[2.0, 3.0, 4.0])).expect("enough");
        assert!((difference + 1.0).abs() < 1e-9);
        assert!((t + 14.9750).abs() < 0.001, "{t}");
    }
}

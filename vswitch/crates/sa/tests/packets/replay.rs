//! The replay window against a set that forgets nothing.

use std::collections::HashSet;

use proptest::prelude::*;
use vswitch_sa::{MAX_WINDOW, MIN_WINDOW, ReplayError, ReplayWindow, WindowError};

/// What the window must do, written the obvious way.
#[derive(Default)]
struct Model {
    width: u64,
    seen: HashSet<u64>,
    highest: u64,
    floor: u64,
}

impl Model {
    fn check(&self, seq: u64) -> bool {
        let inside = self.highest < self.width || seq > self.highest - self.width;
        seq > self.floor && inside && !self.seen.contains(&seq)
    }

    fn update(&mut self, seq: u64) -> bool {
        let ok = self.check(seq);
        if ok {
            self.seen.insert(seq);
            self.highest = self.highest.max(seq);
        }
        ok
    }
}

/// One step: a number relative to the highest, or an absolute one, or a new floor.
#[derive(Debug, Clone)]
enum Step {
    Near(i64),
    Absolute(u64),
    Floor(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (-2500..200i64).prop_map(Step::Near),
        10 => (-80..80i64).prop_map(Step::Near),
        4 => (-70_000..70_000i64).prop_map(Step::Near),
        1 => (0..i64::MAX).prop_map(Step::Near),
        1 => any::<u64>().prop_map(Step::Absolute),
        1 => (0..3u64).prop_map(Step::Absolute),
        1 => (0..3u64).prop_map(|d| Step::Absolute(u64::MAX - d)),
        1 => (-300..300i64).prop_map(Step::Floor),
    ]
}

proptest! {
    #[test]
    fn equals_the_model(
        words in prop_oneof![16..40usize, Just(31), Just(32), Just(1024)],
        start in prop_oneof![Just(0u64), any::<u64>(), (0..5000u64).prop_map(|d| u64::MAX - d)],
        steps in prop::collection::vec(step(), 1..400),
    ) {
        let width = words * 64;
        let mut window = ReplayWindow::new(width).unwrap();
        window.restore_floor(start);
        let mut model = Model {
            width: width as u64,
            highest: start,
            floor: start,
            ..Model::default()
        };
        for step in steps {
            let seq = match step {
                Step::Near(d) => model.highest.saturating_add_signed(d),
                Step::Absolute(seq) => seq,
                Step::Floor(d) => {
                    let floor = model.highest.saturating_add_signed(d);
                    window.restore_floor(floor);
                    model.floor = model.floor.max(floor);
                    model.highest = model.highest.max(floor);
                    continue;
                }
            };
            prop_assert_eq!(window.check(seq).is_ok(), model.check(seq), "check {}", seq);
            prop_assert_eq!(window.update(seq).is_ok(), model.update(seq), "update {}", seq);
            prop_assert_eq!(window.highest(), model.highest);
        }
    }
}

#[test]
fn widths() {
    for width in [0, 64, 1000, 1023, 1025, 1056, MAX_WINDOW + 64, usize::MAX] {
        assert_eq!(ReplayWindow::new(width).err(), Some(WindowError(width)));
    }
    for width in [MIN_WINDOW, 1088, 4096, MAX_WINDOW] {
        assert_eq!(ReplayWindow::new(width).unwrap().width(), width as u64);
    }
}

#[test]
fn edges_of_every_width() {
    for width in (MIN_WINDOW..=8192).step_by(64).chain([MAX_WINDOW]) {
        let mut w = ReplayWindow::new(width).unwrap();
        let top = 1_000_000;
        assert_eq!(w.update(top), Ok(()));
        let oldest = top - width as u64 + 1;
        assert_eq!(w.update(oldest), Ok(()), "{width}");
        assert_eq!(w.update(oldest), Err(ReplayError::Replayed));
        assert_eq!(w.update(oldest - 1), Err(ReplayError::TooOld));
        assert_eq!(w.update(top), Err(ReplayError::Replayed));
        // One on: the oldest falls out, its neighbour is still unseen.
        assert_eq!(w.update(top + 1), Ok(()));
        assert_eq!(w.check(oldest), Err(ReplayError::TooOld));
        assert_eq!(w.update(oldest + 1), Ok(()));
    }
}

#[test]
fn every_number_once_in_any_order() {
    let mut w = ReplayWindow::new(1024).unwrap();
    let mut accepted = 0;
    // 7919 is prime to 1024: each window is visited in a scattered order, twice.
    for base in (0..10).map(|b| b * 1024) {
        for i in 0..2048u64 {
            accepted += usize::from(w.update(base + 1 + i * 7919 % 1024).is_ok());
        }
    }
    // A jump to the end of the next 1024 makes room only for what is in the window.
    assert_eq!(accepted, 10 * 1024);
}

#[test]
fn zero_and_the_far_end() {
    let mut w = ReplayWindow::new(1024).unwrap();
    assert_eq!(w.update(0), Err(ReplayError::Zero));
    assert_eq!(w.highest(), 0);
    assert_eq!(w.update(u64::MAX), Ok(()));
    assert_eq!(w.update(u64::MAX), Err(ReplayError::Replayed));
    assert_eq!(w.update(u64::MAX - 1023), Ok(()));
    assert_eq!(w.update(u64::MAX - 1024), Err(ReplayError::TooOld));
    assert_eq!(w.update(1), Err(ReplayError::TooOld));
    assert_eq!(w.update(0), Err(ReplayError::Zero));
}

#[test]
fn a_refused_update_changes_nothing() {
    let mut w = ReplayWindow::new(1024).unwrap();
    w.update(5000).unwrap();
    let before = format!("{w:?}");
    assert!(w.update(5000).is_err());
    assert!(w.update(100).is_err());
    assert!(w.update(0).is_err());
    assert_eq!(format!("{w:?}"), before);
}

//! Two workers are measured beside one: each side works (and hands over what it must and nothing
//! else, or the run fails) and has its figures.

use std::collections::BTreeMap;

use crate::common::{lines, quick, text, value, word};
use vswitch_perf::scale::{BY_CPU, DROPPED, ON_CPU, RATE, Side, TIMES_ONE, TIMES_ONE_BY_CPU};

#[test]
fn every_side_has_its_figures() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = quick("scale");
    command.args(["--size", "64", "--save"]).arg(dir.path());
    let text = text(&mut command);
    let kept = |name: &str| std::fs::read_to_string(dir.path().join(name)).expect(name);
    assert_eq!(kept("scale.md"), text);
    assert!(kept("scale-rate.svg").contains("two-workers"));
    let mut found = BTreeMap::new();
    for line in lines(&kept("scale.jsonl")) {
        assert_eq!(
            (&line["bench"], &line["bytes"]),
            (&"scale".into(), &64.into())
        );
        let key = (word(&line, "case"), word(&line, "part"));
        assert_eq!(found.insert(key, value(&line)), None, "twice: {line}");
    }
    for side in Side::ALL {
        let of = |part: &str| {
            let found = found.get(&(side.name().into(), part.into()));
            *found.unwrap_or_else(|| panic!("{}: {part}", side.name()))
        };
        assert!(of(RATE) > 0.0 && of(BY_CPU) > 0.0, "{found:?}");
        assert!(
            of(TIMES_ONE) > 0.0 && of(TIMES_ONE_BY_CPU) > 0.0,
            "{found:?}"
        );
        assert!(of(ON_CPU) > 0.0, "{found:?}");
        // Who gets more than the other can take over loses some; nobody else loses any.
        let lost = of(DROPPED);
        assert!(
            lost == 0.0 || side == Side::HandedOver && lost < 1.0,
            "{found:?}"
        );
        if side == Side::One {
            assert_eq!([of(TIMES_ONE), of(TIMES_ONE_BY_CPU)], [1.0; 2]);
        }
    }
}

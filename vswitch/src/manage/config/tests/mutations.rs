//! No file, however mangled, makes more of the reader than an error.

use proptest::prelude::*;

use super::{EXAMPLE, key_dir, parse};

/// One change to the text.
#[derive(Clone, Debug)]
enum Edit {
    Remove(usize, usize),
    Insert(usize, String),
    Repeat(usize, usize),
    Swap(usize, usize),
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let len = EXAMPLE.len();
    let at = 0..len;
    let words = prop_oneof![
        "[ \\-:,{}\\[\\]&*!|>'\"%@`#?\n\t]{1,4}",
        "\\PC{0,6}",
        "[0-9]{1,40}",
        prop::sample::select(vec![
            "&a",
            "*a",
            "<<: *a",
            "~",
            "null",
            "- - -",
            "---\n",
            "!!binary x",
            "1e400",
            "-1",
            ".nan",
            "0x1ffffffffffffffff",
            "{a: {b: {c: [[[[",
            "\u{feff}",
            "\u{0}",
            "? [a]\n: b",
            "true",
            "/dev/zero",
            "..",
            "\n",
            "18446744073709551615",
            "65536",
            "4095",
        ])
        .prop_map(str::to_owned),
    ];
    let edit = prop_oneof![
        (at.clone(), 1..40usize).prop_map(|(a, n)| Edit::Remove(a, n)),
        (at.clone(), words).prop_map(|(a, text)| Edit::Insert(a, text)),
        (at.clone(), 1..200usize).prop_map(|(a, n)| Edit::Repeat(a, n)),
        (at.clone(), at).prop_map(|(a, b)| Edit::Swap(a, b)),
    ];
    prop::collection::vec(edit, 1..4)
}

fn apply(text: &str, edit: &Edit) -> String {
    let chars: Vec<char> = text.chars().collect();
    let cut = |at: usize| at.min(chars.len());
    let part = |from: usize, to: usize| chars[cut(from)..cut(to)].iter().collect::<String>();
    let all = usize::MAX;
    match edit {
        Edit::Remove(a, n) => part(0, *a) + &part(a + n, all),
        Edit::Insert(a, new) => part(0, *a) + new + &part(*a, all),
        Edit::Repeat(a, n) => part(0, a + n) + &part(*a, all),
        Edit::Swap(a, b) => {
            let mut lines: Vec<&str> = text.lines().collect();
            let n = lines.len().max(1);
            if !lines.is_empty() {
                lines.swap(a % n, b % n);
            }
            lines.join("\n")
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn never_panics_and_always_says_why(edits in edits()) {
        thread_local!(static DIR: tempfile::TempDir = key_dir());
        let text = edits.iter().fold(EXAMPLE.to_owned(), |text, edit| apply(&text, edit));
        match DIR.with(|dir| parse(&text, dir.path())) {
            Ok(config) => prop_assert!(!config.check_report().is_empty()),
            Err(error) => {
                prop_assert!(!error.problems().is_empty());
                for problem in error.problems() {
                    prop_assert!(!problem.message.is_empty());
                    let lines = text.split('\n').count();
                    prop_assert!(problem.position.is_none_or(|p| (1..=lines + 1).contains(&p.line)));
                }
            }
        }
    }

    #[test]
    fn any_text_at_all(text in "\\PC{0,200}") {
        let _ = parse(&text, std::path::Path::new("/nonexistent"));
    }
}

/// Depth and aliases that would exhaust a careless reader.
#[test]
fn bombs_are_refused() {
    let deep = format!("nve: {}", "[".repeat(5_000));
    assert!(parse(&deep, "/".as_ref()).is_err());
    let deep = format!("nve: {}{}", "[".repeat(2_000), "]".repeat(2_000));
    assert!(parse(&deep, "/".as_ref()).is_err());
    let mut laughs = "a: &a0 [x, x]\n".to_owned();
    for i in 1..40 {
        laughs += &format!("b{i}: &a{i} [*a{}, *a{}]\n", i - 1, i - 1);
    }
    laughs += "nve: {name: *a39}\nports: *a39\n";
    assert!(parse(&laughs, "/".as_ref()).is_err());
}

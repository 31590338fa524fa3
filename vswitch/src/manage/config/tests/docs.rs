//! `docs/configuration.md` names every key, and no other.

use super::schema::keys;

const PAGE: &str = include_str!("../../../../../docs/configuration.md");

/// The first cells of the tables, and the headings' keys.
fn documented() -> Vec<&'static str> {
    PAGE.lines()
        .filter_map(|line| {
            let cell = line.strip_prefix("| `").or(line.strip_prefix("## `"))?;
            cell.split_once('`').map(|(key, _)| key)
        })
        .collect()
}

#[test]
fn every_key_is_documented() {
    let keys = keys();
    assert!(keys.len() > 80 && keys.contains(&"vns[].mappings[].mac".to_owned()));
    let documented = documented();
    let missing: Vec<_> = keys
        .iter()
        .filter(|key| !documented.contains(&key.as_str()))
        .collect();
    assert!(
        missing.is_empty(),
        "not in docs/configuration.md: {missing:#?}"
    );
}

#[test]
fn no_documented_key_is_gone() {
    let keys = keys();
    let gone: Vec<_> = documented()
        .into_iter()
        .filter(|key| !keys.contains(&(*key).to_owned()))
        .collect();
    assert!(gone.is_empty(), "only in docs/configuration.md: {gone:#?}");
}

#[test]
fn the_example_uses_every_key() {
    for key in keys() {
        let last = key.trim_end_matches("[]").rsplit('.').next().unwrap();
        assert!(super::EXAMPLE.contains(&format!("{last}:")), "{key}");
    }
}

//! Names: which are allowed, which exist, and which one was probably meant.

/// The one of `known` that `wrong` is probably a misspelling of.
pub(super) fn nearest<'a>(
    wrong: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let folded = wrong.to_lowercase().replace('_', "-");
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&folded, &name.to_lowercase()),
                name,
            )
        })
        // One slip in three letters is still a slip; more is another word.
        .filter(|(distance, name)| *distance * 3 <= name.len().max(folded.len()))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// What to say about a name that does not exist: what was meant, or what there is.
pub(super) fn suggestion(wrong: &str, known: &[&str]) -> String {
    /// A longer list helps nobody.
    const LISTED: usize = 12;
    match nearest(wrong, known.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => {
            let mut list: Vec<String> = Vec::new();
            for name in known.iter().map(|name| format!("`{name}`")) {
                if !list.contains(&name) {
                    list.push(name);
                }
                if list.len() == LISTED {
                    list.push("and others".to_owned());
                    break;
                }
            }
            format!("there is {}", list.join(", "))
        }
    }
}

/// Letters, digits, `.`, `_`, `-`; begins with a letter or digit; at most 63 characters. Such
/// a name can stand in a file name, a URI and a table without quoting.
pub(super) fn is_plain(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    name.len() <= 63
        && name.bytes().all(plain)
        && name
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric())
}

/// A name the kernel takes for a network interface (dev_valid_name), and nothing exotic.
pub(super) fn is_interface(name: &str) -> bool {
    name.len() <= 15 && is_plain(name)
}

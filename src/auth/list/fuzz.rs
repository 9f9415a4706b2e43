//! What must hold of lists of clients, whatever is in the file.

use std::fmt::Write;

use super::*;

/// Reads a list of clients.
pub fn client_list(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    match List::parse(text) {
        Ok(list) => {
            assert!(list.len() <= text.lines().count());
            for entry in list.entries.values() {
                assert_eq!(check_name(&entry.name), Ok(()));
                assert_eq!(list.by_name(&entry.name).map(|it| it.limits), Some(entry.limits));
            }
            let written = written(&list);
            assert_eq!(List::parse(&written).as_ref(), Ok(&list), "{written}");
        }
        Err((line, what)) => {
            assert!((1..=text.lines().count()).contains(&line));
            assert_eq!(printable(what.as_bytes()), what);
            // It may be a secret key, pasted by mistake.
            let mut words = what.split([' ', '"']);
            let is_key = |word: &str| word.parse::<PublicKey>().is_ok() && text.contains(word);
            assert!(!words.any(is_key), "it repeats a key: {what}");
        }
    }
}

/// Returns a list as one may write it.
fn written(list: &List) -> String {
    let mut text = String::new();
    for (key, Entry { name, from, until, limits }) in &list.entries {
        let from: Vec<_> = from.iter().map(Network::to_string).collect();
        let day = until.map(|end| humantime::format_rfc3339(end - DAY).to_string());
        let fields = [
            ("from", Some(from.join(",")).filter(|from| !from.is_empty())),
            ("until", day.map(|day| day[..10].into())),
            ("rate", limits.rate.map(|rate| rate.to_string())),
            ("outstanding", limits.outstanding.map(|number| number.to_string())),
            ("connections", limits.connections.map(|number| number.to_string())),
        ];
        let _ = write!(text, "{name} {key}");
        for (option, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let _ = write!(text, " {option}={value}");
        }
        text.push('\n');
    }
    text
}

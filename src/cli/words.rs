//! Puts what people write into words that the options are parsed from, and finds what they meant.

use argh::{CommandInfoWithArgs, FlagInfoKind};

/// Least likeness of two names for one to be meant by the other, 0 to 1.
const MIN_LIKENESS: f64 = 0.6;

/// Returns the words as they are parsed: `help X` as `X --help`, `-V` as `--version`, and
/// `--name=value` as two words. What is behind `--` is left as it is.
pub(super) fn normalize(words: Vec<String>, info: &CommandInfoWithArgs) -> Vec<String> {
    let words = match words.split_first() {
        Some((first, rest)) if first == "help" => {
            let command = rest.iter().take(1).filter(|word| *word != "help").cloned();
            return command.chain(["--help".into()]).collect();
        }
        _ => words,
    };
    let takes_value = |name: &str| {
        let commands = info.commands.iter().flat_map(|it| it.command.flags);
        let mut flags = info.flags.iter().chain(commands);
        !flags.any(|flag| flag.long == name && flag.kind == FlagInfoKind::Switch)
    };
    let mut normalized = Vec::new();
    let mut rest = words.into_iter();
    for word in rest.by_ref() {
        match word.split_once('=') {
            _ if word == "--" => {
                normalized.push(word);
                break;
            }
            _ if word == "-V" && normalized.is_empty() => normalized.push("--version".into()),
            Some((name, value)) if name.starts_with("--") && takes_value(name) => {
                normalized.extend([name.to_string(), value.to_string()]);
            }
            _ => normalized.push(word),
        }
    }
    normalized.extend(rest);
    normalized
}

/// Returns the first of these words before `--` that is neither the command, which is the first one,
/// nor an option or its value; `None` if there is none.
pub(super) fn positional<'a>(words: &[&'a str], command: &CommandInfoWithArgs) -> Option<&'a str> {
    let takes_value = |name: &str| {
        let mut flags = command.flags.iter();
        flags.any(|flag| flag.long == name && flag.kind != FlagInfoKind::Switch)
    };
    let mut rest = words.iter().skip(1).take_while(|word| **word != "--");
    while let Some(word) = rest.next() {
        if !word.starts_with('-') {
            return Some(word);
        }
        if takes_value(word) {
            rest.next();
        }
    }
    None
}

/// Returns the one of `names` that is most like `given`, if one is like it.
pub(super) fn meant<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    let likeness = |name: &str| strsim::normalized_damerau_levenshtein(&given, name);
    let alike = names.map(|name| (likeness(name), name));
    let best = alike.max_by(|(one, _), (other, _)| one.total_cmp(other));
    best.filter(|(likeness, _)| *likeness >= MIN_LIKENESS).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_mistyped_is_found_and_another_is_not() {
        let names = || ["--workers", "--listen", "--max-frames"].into_iter();
        assert_eq!(meant("--worker", names()), Some("--workers"));
        assert_eq!(meant("--lisetn", names()), Some("--listen"));
        assert_eq!(meant("--max-frame", names()), Some("--max-frames"));
        assert_eq!(meant("--nonsense", names()), None);
        assert_eq!(meant("-w", names()), None);
    }
}

//! What argh says of a wrong command line, as an error of one line with a remedy.

use argh::CommandInfoWithArgs;

use super::{command_of, words};
use crate::error::Error;
use crate::text::shorten;

/// Maximum number of bytes of an argument that are shown.
const MAX_WORD: usize = 400;

/// Returns argh's message as an error of one line, with a remedy.
pub(super) fn error(message: &str, words: &[&str], info: &CommandInfoWithArgs) -> Error {
    let mut message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in words.iter().filter(|word| word.len() > MAX_WORD) {
        let mut short = word.to_string();
        shorten(&mut short, MAX_WORD);
        message = message.replace(word, &short);
    }
    message.truncate(message.trim_end_matches('.').len());
    if let Some(first) = message.get_mut(..1) {
        first.make_ascii_lowercase();
    }
    if message.contains("; give ") || message.contains(": give ") {
        return Error::config(message);
    }
    let (name, command) = command_of(words, info);
    if message.ends_with("argument:") {
        message.push_str(" \"\"");
    }
    let unknown = message.strip_prefix("unrecognized argument: ");
    let is_option = unknown.is_some_and(|unknown| unknown.starts_with('-'));
    let before = words.split(|word| unknown == Some(*word)).next().unwrap_or_default();
    let flags = command.flags.iter().map(|flag| flag.long);
    let commands = command.commands.iter().map(|command| command.name);
    let given_value = unknown.and_then(|unknown| unknown.split_once('='));
    let switch = flags.clone().find(|flag| given_value.is_some_and(|(name, _)| name == *flag));
    let meant = unknown.and_then(|unknown| words::meant(unknown, flags.chain(commands)));
    let remedy = match meant {
        _ if message.contains("duplicate values") => format!("give it once; see {name} --help"),
        _ if is_option && name == "repd serve" && words::positional(before, command).is_some() => {
            "if it is an option of a program, put -- before the program; see repd serve --help"
                .into()
        }
        _ if switch.is_some() => format!("{} takes no value", switch.unwrap_or_default()),
        Some(meant) => format!("did you mean {meant}? see {name} --help"),
        None if is_option && name == "repd" => "options follow a command: repd serve --help".into(),
        None if is_option && name == "repd call" => {
            "put -- before a frame that begins with -; see repd call --help".into()
        }
        None => format!("see {name} --help"),
    };
    Error::config(message).with_remedy(remedy)
}

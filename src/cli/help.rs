//! Renders the help of a command from the data that its options are parsed by.

use argh::{CommandInfoWithArgs, FlagInfo, FlagInfoKind, Optionality, PositionalInfo};

/// Maximum width of a line, in characters.
const WIDTH: usize = 80;
/// Column at which descriptions begin.
const COLUMN: usize = 28;

/// The options of each group, in the order in which they are shown. Others are shown under
/// "Options".
const GROUPS: [(&str, &[&str]); 8] = [
    ("Service", &["listen", "timeout", "drain", "io-threads", "backlog", "heartbeat", "check"]),
    ("Workers", &["workers", "handler", "retries"]),
    ("Programs", &["framing", "multipart"]),
    ("Elsewhere", &["backend", "upstream", "max-outstanding", "hedge"]),
    (
        "Limits",
        &[
            "max-message-size",
            "max-frames",
            "max-memory",
            "max-clients",
            "client-outstanding",
            "client-rate",
        ],
    ),
    ("Access", &["key", "clients", "backend-clients", "servers", "allow", "deny", "name-clients"]),
    ("Log", &["log", "log-format", "log-level", "verbose"]),
    ("Figures", &["status"]),
];

/// Returns the help of the command called `name`, such as `repd serve`.
pub(super) fn help(name: &str, info: &CommandInfoWithArgs) -> String {
    let mut text = wrapped(&format!("Usage: {name}"), &usage(info), 4);
    text.push('\n');
    text.push_str(&wrapped("", info.description, 0));
    section(&mut text, "Arguments", info.positionals.iter().map(argument));
    let commands = info.commands.iter();
    let commands = commands.map(|it| (it.name.to_string(), it.command.description));
    let help = (!info.commands.is_empty()).then(|| ("help".into(), "Print the help of a command."));
    let commands = commands.chain(help);
    section(&mut text, "Commands", commands);
    let is_grouped = info.flags.iter().any(|flag| flag.long == "--listen");
    let group_of = |flag: &FlagInfo<'_>| {
        let name = flag.long.trim_start_matches("--");
        let group = GROUPS.iter().find(|(_, options)| options.contains(&name));
        group.filter(|_| is_grouped).map_or("Options", |(title, _)| title)
    };
    for title in GROUPS.iter().map(|(title, _)| *title).chain(["Options"]) {
        let flags = info.flags.iter().filter(|flag| group_of(flag) == title);
        section(&mut text, title, flags.map(option));
    }
    for note in info.notes {
        text.push('\n');
        text.push_str(&wrapped("", note, 0));
    }
    if !info.examples.is_empty() {
        text.push_str("\nExamples:\n");
        for example in info.examples {
            text.push_str(&format!("  {}\n", example.replace("{command_name}", name)));
        }
    }
    text
}

/// Returns what stands behind the command's name in the usage line.
fn usage(info: &CommandInfoWithArgs) -> String {
    let mut words = vec!["[options]".to_string()];
    if !info.commands.is_empty() {
        words.push("[COMMAND]".into());
    }
    words.extend(info.positionals.iter().map(|positional| {
        let name = positional.name.to_uppercase();
        match positional.optionality {
            Optionality::Required => name,
            Optionality::Optional => format!("[{name}]"),
            // Only a program is one of several words.
            _ if name.contains(' ') => format!("[-- {name}...]"),
            Optionality::Repeating | Optionality::Greedy => format!("[{name}...]"),
        }
    }));
    words.join(" ")
}

fn argument<'a>(positional: &PositionalInfo<'a>) -> (String, &'a str) {
    (positional.name.to_uppercase(), positional.description)
}

fn option<'a>(flag: &FlagInfo<'a>) -> (String, &'a str) {
    let short = match (flag.long, flag.short) {
        ("--help", _) => "-h, ".into(),
        ("--version", _) => "-V, ".into(),
        (_, Some(short)) => format!("-{short}, "),
        (_, None) => String::new(),
    };
    let value = match &flag.kind {
        FlagInfoKind::Switch => String::new(),
        FlagInfoKind::Option { arg_name } => format!(" <{arg_name}>"),
    };
    (format!("{short}{}{value}", flag.long), flag.description)
}

/// Appends a section of names and descriptions, unless it is empty.
fn section<'a>(text: &mut String, title: &str, items: impl Iterator<Item = (String, &'a str)>) {
    let mut items = items.peekable();
    if items.peek().is_none() {
        return;
    }
    text.push_str(&format!("\n{title}:\n"));
    for (name, description) in items {
        let mut start = format!("  {name}");
        if start.len() + 2 > COLUMN {
            text.push_str(&start);
            text.push('\n');
            start.clear();
        }
        text.push_str(&wrapped(&format!("{start:COLUMN$}"), description, COLUMN));
    }
}

/// Returns `words` behind `start`, in lines of at most [`WIDTH`]; each but the first is indented.
fn wrapped(start: &str, words: &str, indent: usize) -> String {
    let (mut text, mut line) = (String::new(), start.to_string());
    let mut is_begun = !start.trim().is_empty() && start.len() != COLUMN;
    for word in words.split_whitespace() {
        if is_begun && line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(line.trim_end());
            text.push('\n');
            line = " ".repeat(indent);
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    text.push_str(line.trim_end());
    text.push('\n');
    text
}

//! Tables of options, codes, exit codes and errors: those of the program.

use std::collections::BTreeSet;

use crate::common::{repd, time_limit};
use crate::pages::{code_spans, file, root, rows, section, sections};

fn help(command: &str) -> String {
    String::from_utf8(repd(&[command, "--help"], b"").stdout).unwrap()
}

/// Returns the help's options: each with its value, as in `--workers <n>`, and what it sets.
pub fn options(command: &str) -> Vec<(String, String)> {
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in help(command).lines() {
        let row = line.trim_start();
        if line.starts_with("  --") {
            let (option, text) = row.split_once("  ").unwrap_or((row, ""));
            rows.push((option.into(), text.trim_start().into()));
        } else if let (true, Some((_, text))) = (line.starts_with("    "), rows.last_mut()) {
            *text = [text.as_str(), row].join(" ").trim_start().into();
        }
    }
    rows
}

/// The commands, and where their options are described.
pub const COMMANDS: [(&str, &str, &str); 5] = [
    ("serve", "docs/configuration.md", "The options of `repd serve`"),
    ("call", "docs/tools.md", "`repd call`"),
    ("bench", "docs/tools.md", "`repd bench`"),
    ("status", "docs/tools.md", "`repd status`"),
    ("keygen", "docs/tools.md", "`repd keygen`"),
];

#[test]
fn the_tables_of_options_are_the_helps() {
    let _limit = time_limit(60);
    for (command, page, heading) in COMMANDS {
        let section = section(page, heading);
        let listed: Vec<_> = section.lines.iter().filter(|l| l.starts_with("| `--")).collect();
        let row = |(option, text)| format!("| `{option}` | {text} |");
        let rows: Vec<String> = options(command).into_iter().map(row).collect();
        assert_eq!(
            listed,
            rows.iter().collect::<Vec<_>>(),
            "{page} should say\n{}",
            rows.join("\n")
        );
    }
}

#[test]
fn the_man_pages_options_are_the_helps() {
    let _limit = time_limit(60);
    let page = file("packaging/repd.1");
    for command in ["serve", "call", "status", "bench", "keygen"] {
        let section = page.split(&format!(".Ss repd {command}\n")).nth(1).unwrap();
        let list = section.split(".El").next().unwrap();
        let listed = list.split(".It Fl Fl ").skip(1).map(|item| {
            let (option, text) = item.split_once('\n').unwrap();
            let option = match option.split_once(" Ar ") {
                Some((option, value)) => format!("--{option} <{value}>"),
                None => format!("--{option}"),
            };
            (option, text.split_whitespace().collect::<Vec<_>>().join(" "))
        });
        assert_eq!(listed.collect::<Vec<_>>(), options(command), "{command}");
    }
}

#[test]
fn the_table_of_a_lists_options_is_the_programs() {
    let source = file("src/auth/list.rs");
    let parse = source.split("fn parse_option(").nth(1).unwrap().split("\nfn ").next().unwrap();
    let arms = parse.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    let taken: BTreeSet<String> = arms.map(|(name, _)| name.into()).collect();
    let page = file("docs/security.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let listed = rows.filter_map(|(option, _)| option.split_once('='));
    let listed: BTreeSet<String> = listed.map(|(name, _)| name.into()).collect();
    assert!(!taken.is_empty());
    assert_eq!(listed, taken);
}

/// Returns the codes of error replies that the program has, from its source.
fn codes() -> Vec<String> {
    let source = file("src/fault.rs");
    let constants = source.lines().filter(|line| line.trim().starts_with("pub const "));
    let numbers = constants.filter_map(|line| line.split("= Code(").nth(1)?.split(')').next());
    numbers.map(Into::into).collect()
}

#[test]
fn the_tables_of_codes_are_the_programs() {
    let codes = codes();
    assert!(codes.len() >= 6, "{codes:?}");
    let column =
        |page: &str| rows(&section(page, "Error replies")).into_iter().map(|mut row| row.remove(0));
    assert_eq!(column("docs/protocol.md").collect::<Vec<_>>(), codes);
    let mut explained: Vec<String> = column("docs/troubleshooting.md").collect();
    explained.dedup();
    assert_eq!(explained, codes);
    let page = file("packaging/repd.1");
    let replies = page.split(".Sh ERROR REPLIES").nth(1).unwrap().split(".Sh ").next().unwrap();
    let listed: Vec<&str> = replies.lines().filter_map(|line| line.strip_prefix(".It ")).collect();
    assert_eq!(listed, codes);
}

#[test]
fn the_tables_of_exit_codes_are_the_helps() {
    let _limit = time_limit(60);
    // A second signal: the help does not tell of it.
    let of_a_signal = "128 + n";
    assert!(file("src/sys/signals.rs").contains("128 + signal"));
    let mut all = BTreeSet::from([of_a_signal.replace(' ', "")]);
    for (command, page, _) in COMMANDS {
        let page = if command == "serve" { "docs/operations.md" } else { page };
        let help = help(command).split_whitespace().collect::<Vec<_>>().join(" ");
        let said = help.split("Exit codes: ").nth(1).unwrap();
        let mut codes: Vec<_> = said.split("; ").map(|it| it.split(' ').next().unwrap()).collect();
        all.extend(codes.iter().map(|code| code.to_string()));
        if command == "serve" {
            codes.push(of_a_signal);
        }
        let rows = rows(&section(page, &format!("Exit codes of `repd {command}`")));
        assert_eq!(rows.iter().map(|row| &row[0]).collect::<Vec<_>>(), codes, "{command}");
    }
    let page = file("packaging/repd.1");
    let status = page.split(".Sh EXIT STATUS").nth(1).unwrap().split(".Sh ").next().unwrap();
    let listed = status.lines().filter_map(|line| Some(line.strip_prefix(".It ")?.to_string()));
    assert_eq!(listed.collect::<BTreeSet<_>>(), all);
}

/// Returns all of `src` as one text, in which a string that goes on in the next line is whole.
fn source() -> String {
    let mut folders = vec![root().join("src")];
    let mut text = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                text += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    let mut parts = text.split("\\\n");
    let first = parts.next().unwrap().to_string();
    parts.fold(first, |text, part| text + part.trim_start()).replace("\\\\", "\\")
}

#[test]
fn errors_and_log_lines_are_quoted_as_they_are() {
    let source = source();
    // The system's own words; and sentences whose beginning is elsewhere in the source.
    let system = ["Connection refused", "Permission denied", "No such file or directory"];
    let composed = ["the request ", "worker 1"];
    let mut compared = 0;
    for page in ["docs/troubleshooting.md", "docs/programs.md", "docs/security.md"] {
        for section in sections(page) {
            let column = usize::from(section.heading == "Error replies");
            let cells = rows(&section).into_iter().map(|mut row| row.remove(column));
            for cell in cells.collect::<Vec<_>>() {
                let spans = code_spans(&cell).into_iter();
                let quoted = spans.filter(|span| span.contains(' ') && !span.starts_with("--"));
                // An error is put together of its parts, and an elision stands for what differs.
                for part in quoted.flat_map(|span| span.split(['…', ':', ';', '(', ')'])) {
                    let part = part.trim_matches([' ', ',']);
                    let end = composed.iter().find_map(|start| part.strip_prefix(start));
                    let is_said = source.contains(end.unwrap_or(part)) || system.contains(&part);
                    assert!(is_said, "{page}, {}: {part:?} is not said", section.heading);
                    compared += 1;
                }
            }
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn the_last_line_of_the_log_has_the_counters_of_the_table() {
    let source = file("src/status/stats.rs");
    let rows = rows(&section("docs/log.md", "The last line"));
    let counters: Vec<&str> = rows.iter().flat_map(|row| code_spans(&row[0])).collect();
    let shown = source.split("impl fmt::Display for Stats").nth(1).unwrap();
    let strings: Vec<&str> = shown.split('"').skip(1).step_by(2).collect();
    let rare = strings.iter().filter(|it| !it.contains('{'));
    assert_eq!(counters, ["requests", "replies"].iter().chain(rare).copied().collect::<Vec<_>>());
}

#[test]
fn the_table_of_events_is_the_logs() {
    let source = file("src/logging/event.rs");
    let arms = |function: &str| -> Vec<String> {
        let body = source.split(&format!("fn {function}(self)")).nth(1).unwrap();
        let body = body.split("    }\n    }\n").next().unwrap();
        body.split('"').skip(1).step_by(2).map(Into::into).collect()
    };
    let events: Vec<_> = arms("name").into_iter().zip(arms("message_id")).collect();
    assert_eq!(events.len(), 7);
    let rows = rows(&section("docs/log.md", "In the journal"));
    let listed: Vec<_> = rows
        .iter()
        .filter(|row| code_spans(&row[1]).first().is_some_and(|id| id.len() == 32))
        .map(|row| (row[0].trim_matches('`').to_string(), row[1].trim_matches('`').to_string()))
        .collect();
    assert_eq!(listed, events);
}

#[test]
fn the_table_of_the_nixos_modules_options_is_the_modules() {
    // A build in a sandbox does not have the module.
    if !root().join("nixos/module.nix").exists() {
        return;
    }
    let named = |text: &str, indent: &str| -> Vec<String> {
        let names = text.lines().filter_map(|line| {
            let name = line.strip_prefix(indent)?.split(" =").next()?;
            name.chars().all(|c| c.is_ascii_alphabetic()).then(|| name.to_string())
        });
        names.collect()
    };
    let module = file("nixos/module.nix");
    let own = module.split("  options.services.repd = options // {").nth(1).unwrap();
    let options = file("nixos/options.nix");
    let shared = options.split("\nin\n").nth(1).unwrap();
    let own = named(own.split("\n  };").next().unwrap(), "    ");
    let names = own.into_iter().chain(named(shared, "  "));
    let rows = rows(&section("docs/nixos.md", "NixOS"));
    let listed = rows.iter().map(|row| row[0].trim_matches('`').to_string());
    let names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
    assert_eq!(listed.take(names.len()).collect::<Vec<_>>(), names);
}

#[test]
fn the_tables_of_metrics_are_what_is_told() {
    let source = file("src/status/metrics.rs");
    let strings: Vec<&str> = source.split('"').collect();
    let is_name = |it: &str| {
        ["repd_", "process_"].iter().any(|start| it.starts_with(start))
            && it.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    };
    let told: BTreeSet<&str> =
        strings.iter().filter(|it| is_name(it)).map(|it| it.trim_end_matches("_total")).collect();
    let rows = rows(&section("docs/monitoring.md", "Metrics"));
    let listed = rows.iter().flat_map(|row| code_spans(&row[0])).collect::<Vec<_>>();
    let metrics = listed.iter().filter(|it| is_name(it)).map(|it| it.trim_end_matches("_total"));
    assert_eq!(metrics.collect::<BTreeSet<_>>(), told);
    let reasons: BTreeSet<&str> = listed.into_iter().filter(|it| !is_name(it)).collect();
    let counted = file("src/socket/refusals.rs") + &file("src/auth/guard.rs");
    assert!(reasons.len() == 11 && reasons.iter().all(|it| counted.contains(&format!("\"{it}\""))));
}

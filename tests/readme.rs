//! The README and the man page are true: their options are those of the help, the tour goes as it
//! says.

mod common;

use std::path::Path;
use std::process::Command;

use common::{Process, REPD, repd, time_limit};

fn file(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn readme() -> String {
    file("README.md")
}

/// Returns the help's options: each with its value, as in `--workers <n>`, and what it sets.
fn options(command: &str) -> Vec<(String, String)> {
    let help = String::from_utf8(repd(&[command, "--help"], b"").stdout).unwrap();
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in help.lines() {
        let row = line.trim_start();
        if line.starts_with("  --") {
            let (option, text) = row.split_once("  ").unwrap_or((row, ""));
            rows.push((option.into(), text.trim_start().into()));
        } else if let (true, Some((_, text))) = (line.starts_with("    "), rows.last_mut()) {
            *text = [text.as_str(), row].join(" ").trim_start().into();
        }
    }
    assert!(rows.len() > 3, "{help}");
    rows
}

#[test]
fn its_tables_of_options_are_the_helps() {
    let _limit = time_limit(60);
    for command in ["serve", "call", "bench"] {
        let title = format!("## `repd {command}`\n");
        let readme = readme();
        let section = readme.split(&title).nth(1).unwrap().split("\n## ").next().unwrap();
        let listed: Vec<&str> = section.lines().filter(|line| line.starts_with("| `--")).collect();
        let row = |(option, text)| format!("| `{option}` | {text} |");
        let rows: Vec<String> = options(command).into_iter().map(row).collect();
        assert_eq!(listed, rows, "the README should say\n{}", rows.join("\n"));
    }
}

#[test]
fn the_man_pages_options_are_the_helps() {
    let _limit = time_limit(60);
    let page = file("packaging/repd.1");
    for command in ["serve", "call", "bench"] {
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

/// Returns the first block of code of that kind.
fn block(kind: &str) -> String {
    let readme = readme();
    let block = readme.split(&format!("```{kind}\n")).nth(1).unwrap();
    block.split("```").next().unwrap().to_string()
}

#[test]
fn its_tour_goes_as_it_says() {
    let _limit = time_limit(60);
    let service = Process::start(&[]);
    let tour = block("console").replace("tcp://localhost:5555", &service.endpoint);
    let mut steps = 0;
    for step in tour.split("$ ").skip(1) {
        let (command, printed) = step.split_once('\n').unwrap();
        let command = command.replace("repd call", &format!("{REPD} call"));
        let run = Command::new("sh").args(["-c", &command]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&run.stdout), printed, "{command}");
        steps += 1;
    }
    assert_eq!(steps, 3);
}

#[test]
fn its_python_client_gets_replies_and_errors() {
    let _limit = time_limit(60);
    let Some(python) = common::python_with_pyzmq() else { return };
    let (service, refusing) = (Process::start(&[]), Process::sleepy(&[]));
    let error = "error 400 send milliseconds, never, or panic";
    for (service, printed) in [(service, "olleh"), (refusing, error)] {
        let client = block("python").replace("tcp://localhost:5555", &service.endpoint);
        let (_, asks) = client.split_once("connect").unwrap().1.split_once('\n').unwrap();
        // It can go on after either.
        let run = Command::new(python).args(["-c", &[&client, asks].concat()]).output().unwrap();
        assert_eq!(
            String::from_utf8_lossy(&run.stdout),
            format!("{printed}\n").repeat(2),
            "{run:?}"
        );
    }
}

//! The README is true: its options are those of the help, its tour goes as it says.

mod common;

use std::process::Command;

use common::{Process, REPD, repd, time_limit};

fn readme() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap()
}

/// The help's options as rows of a table.
fn rows(command: &str) -> Vec<String> {
    let help = String::from_utf8(repd(&[command, "--help"], b"").stdout).unwrap();
    let usage = help.lines().next().unwrap().to_string();
    let options = help.split("Options:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut rows: Vec<(String, String)> = Vec::new();
    for line in options.lines() {
        let mut words = line.split_whitespace().map(String::from).collect::<Vec<_>>();
        if line.starts_with("  -") {
            rows.push((words.remove(0), words.join(" ")));
        } else {
            let text = &mut rows.last_mut().unwrap().1;
            *text = [text.as_str(), &words.join(" ")].join(" ").trim().to_string();
        }
    }
    rows.pop_if(|(option, _)| option == "-h,").expect("the help's own option is the last");
    let value = |option: &str| {
        let own = usage.split(&format!("[{option}")).nth(1).unwrap().split(']').next().unwrap();
        own.replace("...", "")
    };
    rows.iter().map(|(option, text)| format!("| `{option}{}` | {text} |", value(option))).collect()
}

#[test]
fn its_tables_of_options_are_the_helps() {
    let _limit = time_limit(60);
    for command in ["serve", "call", "bench"] {
        let title = format!("## `repd {command}`\n");
        let readme = readme();
        let section = readme.split(&title).nth(1).unwrap().split("\n## ").next().unwrap();
        let listed: Vec<&str> = section.lines().filter(|line| line.starts_with("| `--")).collect();
        assert_eq!(listed, rows(command), "the README should say\n{}", rows(command).join("\n"));
    }
}

/// The first block of code of that kind.
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
fn its_python_client_gets_a_reply() {
    let _limit = time_limit(60);
    let Some(python) = common::python_with_pyzmq() else { return };
    let service = Process::start(&[]);
    let client = block("python").replace("tcp://localhost:5555", &service.endpoint);
    assert_eq!(client.lines().count(), 6);
    let run = Command::new(python).args(["-c", &client]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&run.stdout), "olleh\n", "{run:?}");
}

//! The documentation is true: its tables are those of the program, what it shows of a terminal
//! happens, its links lead somewhere, and no page is too long.

#[path = "../common/mod.rs"]
mod common;
mod pages;
mod references;
mod sessions;
mod tables;

use std::process::Command;

use common::{Process, time_limit};
use pages::{pages, sections};

#[test]
fn what_a_terminal_shows_is_what_happens() {
    let _limit = time_limit(300);
    for page in pages() {
        sections(&page).iter().for_each(|section| sessions::run(&page, section));
    }
}

/// Returns the client in Python that the README shows.
fn python_client() -> String {
    let blocks = sections("README.md").into_iter().flat_map(|section| section.blocks);
    let mut python = blocks.filter(|block| block.kind == "python");
    python.next().expect("a client in Python").text()
}

#[test]
fn the_python_client_gets_replies_and_errors() {
    let _limit = time_limit(60);
    let Some(python) = common::python_with_pyzmq() else { return };
    let (service, refusing) = (Process::start(&[]), Process::sleepy(&[]));
    let error = "error 400 send milliseconds, never, or panic";
    for (service, printed) in [(service, "olleh"), (refusing, error)] {
        let client = python_client().replace("tcp://localhost:5555", &service.endpoint);
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

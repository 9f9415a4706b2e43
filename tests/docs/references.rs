//! What the pages refer to exists: sections, files, options, figures of another page.

use crate::common::time_limit;
use crate::pages::{
    anchor, code_spans, file, links, pages, resolve, root, rows, section, sections,
};
use crate::tables::{COMMANDS, options};

#[test]
fn links_lead_somewhere() {
    let others = ["CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "benches/README.md"];
    let others = others.into_iter().chain(["zmq-sys/README.md"]).map(String::from);
    for page in pages().into_iter().chain(others) {
        for link in links(&page) {
            let (path, fragment) = resolve(&page, &link);
            assert!(root().join(&path).exists(), "{page}: {link}");
            if let Some(fragment) = fragment {
                let mut headings = sections(path.to_str().unwrap()).into_iter();
                assert!(headings.any(|it| anchor(&it.heading) == fragment), "{page}: {link}");
            }
        }
    }
}

#[test]
fn no_page_is_too_long_and_the_readme_names_each() {
    let readme = links("README.md");
    for page in pages() {
        let most = if page == "README.md" { 9_000 } else { 12_000 };
        let length = file(&page).len();
        assert!(length <= most, "{page} has {length} bytes");
        assert!(page == "README.md" || readme.contains(&page), "the README does not name {page}");
    }
}

#[test]
fn the_map_of_the_source_has_every_module() {
    let rows = rows(&section("docs/architecture.md", "Where things live"));
    let listed: Vec<&str> = rows.iter().flat_map(|row| code_spans(&row[0])).collect();
    let source = file("src/lib.rs");
    let modules = source
        .lines()
        .filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'));
    for module in modules {
        assert!(listed.contains(&module), "docs/architecture.md does not name {module}");
    }
}

#[test]
fn the_readmes_figures_are_those_of_the_benchmarks() {
    let sections = sections("docs/benchmarks.md");
    let all: Vec<Vec<String>> = sections.iter().flat_map(rows).collect();
    let readme = rows(&section("README.md", "How fast"));
    assert_eq!(readme.len(), 7);
    for row in readme {
        let full = all.iter().find(|full| full[0] == row[0]).expect("a row of that load");
        assert!(row.iter().all(|cell| full.contains(cell)), "{row:?} {full:?}");
    }
}

/// Returns the code of all pages that no other test runs, each with its page: the lines of blocks,
/// and what is between backticks.
fn code() -> Vec<(String, String)> {
    let pages = pages().into_iter().chain(["CONTRIBUTING.md".into()]);
    pages
        .flat_map(|page| code_of(&page).into_iter().map(move |code| (page.clone(), code)))
        .collect()
}

fn code_of(page: &str) -> Vec<String> {
    let mut code = Vec::new();
    for section in sections(page) {
        // Code in the text may go on in the next line.
        let text = section.lines.join(" ");
        code.extend(code_spans(&text).into_iter().map(String::from));
        let blocks = section.blocks.into_iter().filter(|block| block.kind != "console");
        code.extend(blocks.flat_map(|block| block.lines));
    }
    code
}

fn words(code: &str) -> Vec<&str> {
    let words = code.split(|c: char| c.is_whitespace() || "\"'()[],".contains(c));
    words.filter(|word| !word.is_empty()).collect()
}

#[test]
fn the_options_that_are_named_exist() {
    let _limit = time_limit(60);
    let names = COMMANDS.map(|(command, ..)| {
        let names = options(command).into_iter();
        let names = names.map(|(option, _)| option.split(' ').next().unwrap().to_string());
        (command, names.chain(["--help".into()]).collect::<Vec<String>>())
    });
    let mut named = 0;
    for (page, code) in code() {
        let words = words(&code);
        // What comes after -- is a program's.
        let own = words.split(|word| *word == "--").next().unwrap_or_default();
        let runs = |command| own.windows(2).any(|pair| pair == ["repd", command]);
        let is_for_service = own.first() == Some(&"REPD_OPTIONS=");
        let is_any = code.starts_with("--");
        let commands = names.iter().filter(|(command, _)| {
            is_any || runs(command) || (is_for_service && *command == "serve")
        });
        let known: Vec<&String> = commands.flat_map(|(_, names)| names).collect();
        if known.is_empty() {
            continue;
        }
        for option in own.iter().filter(|word| word.starts_with("--")) {
            let name = option.split('=').next().unwrap();
            assert!(known.iter().any(|known| *known == name), "{page}: {option} in {code:?}");
            named += 1;
        }
    }
    assert!(named > 50, "{named}");
}

#[test]
fn the_files_and_flake_outputs_that_are_named_exist() {
    const FOLDERS: [&str; 9] = [
        ".ci/",
        "benches/",
        "docs/",
        "examples/",
        "nixos/",
        "packaging/",
        "src/",
        "tests/",
        "zmq-sys/",
    ];
    // A build in a sandbox has a part of the files only.
    if !root().join(".ci").exists() {
        return;
    }
    let flake = file("flake.nix");
    let mut named = 0;
    for (page, code) in code() {
        for word in words(&code).into_iter().filter(|word| !word.contains('*')) {
            let exists = match word.strip_prefix(".#") {
                Some(output) => match output.rsplit_once(".vm-") {
                    Some((_, scenario)) => root().join(format!("tests/vm/{scenario}.nix")).exists(),
                    None => output.contains('.') || flake.contains(&format!("{output} =")),
                },
                None if !FOLDERS.iter().any(|folder| word.starts_with(folder)) => continue,
                None => root().join(word).exists(),
            };
            assert!(exists, "{page}: {word}");
            named += 1;
        }
    }
    assert!(named > 30, "{named}");
}

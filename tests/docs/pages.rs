//! The documentation as it is written: its files, sections, blocks of code, tables and links.

use std::path::{Path, PathBuf};

/// Returns the folder of the project.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn file(path: &str) -> String {
    let read = std::fs::read_to_string(root().join(path));
    read.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the paths of the pages: the README, and all of `docs`.
pub fn pages() -> Vec<String> {
    let folder = std::fs::read_dir(root().join("docs")).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names = names.filter(|name| name.ends_with(".md"));
    let mut pages: Vec<String> = names.map(|name| format!("docs/{name}")).collect();
    pages.sort();
    pages.insert(0, "README.md".into());
    pages
}

/// A part of a page, from one heading to the next of any level.
pub struct Section {
    pub heading: String,
    /// Its lines, without those of blocks.
    pub lines: Vec<String>,
    pub blocks: Vec<Block>,
}

/// A block of code.
pub struct Block {
    /// What follows the fence: `console`, `sh`, `rust,no_run`.
    pub kind: String,
    /// The name of the file that it is, if the line before it ends with that and a colon.
    pub file: Option<String>,
    pub lines: Vec<String>,
}

impl Block {
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

/// Returns the sections of a page.
pub fn sections(page: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    let mut block: Option<Block> = None;
    // The number of lines of the section that stand before its last block.
    let mut after_block = 0;
    let text = file(page);
    for line in text.lines() {
        let fence = line.strip_prefix("```");
        match (&mut block, fence) {
            (Some(_), Some("")) => {
                let section = sections.last_mut().unwrap();
                section.blocks.extend(block.take());
                after_block = section.lines.len();
            }
            (Some(open), _) => open.lines.push(line.into()),
            (None, Some(kind)) => {
                let mut before = sections.last().unwrap().lines[after_block..].iter();
                let before = before.rfind(|line| !line.is_empty());
                let named = before.and_then(|line| line.strip_suffix("`:")?.rsplit('`').next());
                block = Some(Block {
                    kind: kind.into(),
                    file: named.map(Into::into),
                    lines: Vec::new(),
                });
            }
            (None, None) if line.starts_with('#') => {
                let heading = line.trim_start_matches('#').trim().into();
                after_block = 0;
                sections.push(Section { heading, lines: Vec::new(), blocks: Vec::new() });
            }
            (None, None) => sections.last_mut().unwrap().lines.push(line.into()),
        }
    }
    assert!(block.is_none(), "{page}: a block has no end");
    sections
}

/// Returns the section of a page that has this heading.
pub fn section(page: &str, heading: &str) -> Section {
    let found = sections(page).into_iter().find(|section| section.heading == heading);
    found.unwrap_or_else(|| panic!("{page} has no section {heading:?}"))
}

/// Returns the cells of the rows of a section's tables, their heads not among them.
pub fn rows(section: &Section) -> Vec<Vec<String>> {
    let lines: Vec<&String> = section.lines.iter().filter(|line| line.starts_with('|')).collect();
    let is_rule = |line: &str| line.chars().all(|c| "|- ".contains(c));
    let mut rows = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        if is_rule(line) || lines.get(place + 1).is_some_and(|next| is_rule(next)) {
            continue;
        }
        let line = line.replace("\\|", "\0");
        let cells = line.trim_matches('|').split('|');
        rows.push(cells.map(|cell| cell.trim().replace('\0', "|")).collect());
    }
    rows
}

/// Returns what stands between backticks in `text`.
pub fn code_spans(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Returns the anchor that a heading has on a page, as GitHub makes it.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// Returns the targets of a page's links to other files and to its own sections.
pub fn links(page: &str) -> Vec<String> {
    let lines = sections(page).into_iter().flat_map(|section| {
        let lines = section.lines.into_iter();
        lines.chain([section.heading])
    });
    let text = lines.collect::<Vec<_>>().join("\n");
    let targets = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_string());
    targets.filter(|target| !target.contains("://")).collect()
}

/// Returns the file and the anchor that a link on `page` leads to.
pub fn resolve(page: &str, target: &str) -> (PathBuf, Option<String>) {
    let (path, anchor) = match target.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor.to_string())),
        None => (target, None),
    };
    let folder = Path::new(page).parent().unwrap();
    let path = if path.is_empty() { PathBuf::from(page) } else { folder.join(path) };
    (path, anchor)
}

//! The documents as pages: their fenced blocks, the commands in them, their links and headings.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A document in Markdown.
pub(crate) struct Page {
    /// From the root of the repository.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Page {
    pub(crate) fn open(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, text }
    }

    /// The path that a link of this page leads to, from the root of the repository.
    pub(crate) fn resolve(&self, link: &str) -> PathBuf {
        if link.is_empty() { self.path.clone() } else { self.folder().join(link) }
    }

    fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Every document: README, what it links to, and `docs`.
pub(crate) fn pages() -> Vec<Page> {
    let mut pages = guide();
    pages.extend(["CHANGELOG.md", "SECURITY.md"].map(Page::open));
    pages
}

/// The documents whose commands are run.
pub(crate) fn guide() -> Vec<Page> {
    let entries = fs::read_dir("docs").expect("docs");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry of docs").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() > 3, "{paths:?}");
    ["README.md", "CONTRIBUTING.md"].map(PathBuf::from).into_iter().chain(paths).map(Page::open).collect()
}

/// A fenced block, without its indentation.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

/// The blocks of the guide.
pub(crate) fn blocks() -> Vec<Block> {
    guide().iter().flat_map(|page| blocks_of(&page.text)).collect()
}

fn blocks_of(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if let Some(language) = line.trim_start().strip_prefix("```") {
            let within = lines.by_ref().take_while(|line| line.trim() != "```");
            let text: Vec<_> = within.map(|line| line.get(indent..).unwrap_or_default()).collect();
            blocks.push(Block { language: language.to_owned(), text: text.join("\n") });
        }
    }
    blocks
}

/// The text of the guide's one block of a language that begins so.
pub(crate) fn block(language: &str, beginning: &str) -> String {
    let mut found =
        blocks().into_iter().filter(|block| block.language == language && block.text.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(block), None) => block.text,
        _ => panic!("the guide needs exactly one block of {language} that begins with {beginning}"),
    }
}

/// The commands of all shell blocks, each with all of its lines.
pub(crate) fn commands() -> Vec<String> {
    let shell = blocks().into_iter().filter(|block| block.language == "sh");
    shell.flat_map(|block| commands_of(&block.text)).collect()
}

fn commands_of(block: &str) -> Vec<String> {
    let mut commands = Vec::new();
    let mut begun = String::new();
    for line in block.lines() {
        begun.push_str(line);
        let complete = !line.ends_with('\\') && is_complete(&begun);
        if complete {
            commands.push(std::mem::take(&mut begun));
        } else {
            begun.push('\n');
        }
    }
    assert_eq!(begun, "", "a command without an end");
    commands.retain(|command| !command.is_empty() && !command.starts_with('#'));
    commands
}

fn is_complete(command: &str) -> bool {
    let output = Command::new("bash").args(["-nc", command]).output().expect("bash");
    output.status.success()
}

/// The text between single backticks outside the blocks.
pub(crate) fn spans(page: &Page) -> Vec<String> {
    let mut within = false;
    let prose = page.text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        within ^= fence;
        !fence && !within
    });
    let prose = prose.collect::<Vec<_>>().join(" ");
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of its links and pictures.
pub(crate) fn links(page: &Page) -> impl Iterator<Item = &str> {
    page.text.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The anchors of its headings.
pub(crate) fn anchors(page: &Page) -> Vec<String> {
    let headings = page.text.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|rest| anchor(rest.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

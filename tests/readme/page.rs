//! README as a page: its fenced blocks, the commands in them, its links and headings.

use std::fs;
use std::process::Command;

pub(crate) fn readme() -> String {
    fs::read_to_string("README.md").expect("README.md")
}

/// A fenced block, without its indentation.
pub(crate) struct Block {
    pub(crate) language: String,
    pub(crate) text: String,
}

pub(crate) fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = readme.lines();
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

/// The text of the one block of a language that begins so.
pub(crate) fn block(readme: &str, language: &str, beginning: &str) -> String {
    let mut found = blocks(readme)
        .into_iter()
        .filter(|block| block.language == language && block.text.starts_with(beginning));
    match (found.next(), found.next()) {
        (Some(block), None) => block.text,
        _ => panic!("README.md has not exactly one block of {language} that begins with {beginning}"),
    }
}

/// The commands of all shell blocks, each with all of its lines.
pub(crate) fn commands(readme: &str) -> Vec<String> {
    let shell = blocks(readme).into_iter().filter(|block| block.language == "sh");
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

/// What stands between single backticks outside the blocks.
pub(crate) fn spans(readme: &str) -> Vec<String> {
    let mut within = false;
    let prose = readme.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        within ^= fence;
        !fence && !within
    });
    let prose = prose.collect::<Vec<_>>().join(" ");
    prose.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The targets of its links.
pub(crate) fn links(readme: &str) -> impl Iterator<Item = &str> {
    readme.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
}

/// The anchors of its headings.
pub(crate) fn anchors(readme: &str) -> Vec<String> {
    let headings = readme.lines().filter_map(|line| line.strip_prefix('#'));
    headings.map(|rest| anchor(rest.trim_start_matches('#').trim())).collect()
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

//! The Chinese pages have what the English ones have: headings, commands, code,
//! points and tables. Nothing here reads the words.

use std::{fs, path::Path};

use crate::documents::ROOT;

const PAGES: [(&str, &str); 3] = [
    ("README.md", "README.zh-CN.md"),
    ("docs/choosing.md", "docs/choosing.zh-CN.md"),
    ("docs/lessons.md", "docs/lessons.zh-CN.md"),
];

/// What a page has in order, whatever its language.
#[derive(Debug, PartialEq)]
enum Part {
    /// A heading of that level.
    Heading(usize),
    /// An item of a list, or a paragraph that begins in bold.
    Point,
    /// The cells of a row, and its links and commands.
    Row(usize, Vec<String>),
    /// A line of a block of commands, without its comment.
    Command(String),
    /// A block of code or output.
    Code(String),
    /// A block of text, which is translated.
    Text,
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap()
}

fn parts(page: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for (number, piece) in page.split("```").enumerate() {
        let (language, text) = piece.split_once('\n').unwrap_or_default();
        match language {
            _ if number % 2 == 0 => parts.extend(piece.lines().filter_map(part)),
            "text" => parts.push(Part::Text),
            "sh" => parts.extend(text.lines().map(|line| Part::Command(without_comment(line)))),
            _ => parts.push(Part::Code(text.to_owned())),
        }
    }
    parts
}

fn part(line: &str) -> Option<Part> {
    let is_point = ["- ", "**", "1. ", "2. ", "3. "].iter().any(|start| line.starts_with(start));
    match line.chars().next()? {
        '#' => Some(Part::Heading(line.split(' ').next()?.len())),
        '|' => {
            let links = line.split("](").skip(1).filter_map(|link| link.split(')').next());
            let commands = line.split('`').filter(|code| code.starts_with("just "));
            let same = links.chain(commands).map(|it| it.replace(".zh-CN", "")).collect();
            Some(Part::Row(line.matches('|').count(), same))
        }
        _ => is_point.then_some(Part::Point),
    }
}

fn without_comment(line: &str) -> String {
    line.split(" #").next().unwrap_or_default().trim().to_owned()
}

#[test]
fn the_chinese_pages_have_the_parts_of_the_english_ones() {
    for (english, chinese) in PAGES {
        let [mut there, here] = [english, chinese].map(|path| parts(&read(path)));
        // The diagrams of the lessons are on the English page alone.
        if english == "docs/lessons.md" {
            there.retain(|part| *part != Part::Text);
        }
        for (number, (there, here)) in there.iter().zip(&here).enumerate() {
            assert_eq!(there, here, "part {number} of {english} and {chinese}");
        }
        assert_eq!(there.len(), here.len(), "{english} and {chinese}");
    }
}

#[test]
fn a_page_and_its_translation_name_each_other_at_the_top() {
    for (english, chinese) in PAGES {
        for (page, other) in [(english, chinese), (chinese, english)] {
            let name = Path::new(other).file_name().unwrap().to_string_lossy();
            let top: String = read(page).lines().take(3).collect();
            assert!(top.contains(&format!("]({name})")), "{page} has no link to {other} at its top");
        }
    }
}

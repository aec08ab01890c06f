use std::{fs, path::Path};

use lessons::LESSONS;

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::parent).unwrap()
}

/// Without what the width of a line makes of it.
fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn the_page_has_every_lesson_and_no_other_and_what_each_one_says() {
    let page = fs::read_to_string(repository().join("docs/lessons.md")).unwrap();
    let told: Vec<_> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(told, LESSONS.map(|lesson| lesson.name), "just lessons-doc makes docs/lessons.md anew");
    let sections = page.split("\n## ").skip(1);
    for (lesson, section) in LESSONS.into_iter().zip(sections.map(words)) {
        let texts = [lesson.line, lesson.why, lesson.recognise, lesson.cure, lesson.elsewhere];
        for said in texts.into_iter().chain([lesson.source().as_str()]) {
            assert!(section.contains(&words(said)), "{}: {said}: just lessons-doc", lesson.name);
        }
    }
}

#[test]
fn the_source_of_every_lesson_says_where_its_trap_is() {
    for source in LESSONS.map(|lesson| lesson.source()) {
        let text = fs::read_to_string(repository().join(&source)).unwrap();
        assert!(text.contains("// The trap:"), "{source} has no line that begins with // The trap:");
    }
}

#[test]
fn what_a_lesson_says_of_other_stacks_is_tried_unless_it_is_the_same_in_all() {
    for lesson in LESSONS {
        let file = lesson.name.replace('-', "_");
        let trial = format!("comparison/connectrpc/tests/traps/{file}.rs");
        let depends = !lesson.elsewhere.starts_with("This does not depend on the stack: ");
        assert_eq!(repository().join(&trial).exists(), depends, "{trial}: {}", lesson.elsewhere);
    }
}

#[test]
fn the_readme_lists_every_lesson() {
    let readme = fs::read_to_string(repository().join("README.md")).unwrap();
    for lesson in LESSONS {
        let row = format!("| [`{0}`](docs/lessons.md#{0}) | {1} |", lesson.name, lesson.line);
        assert!(readme.contains(&row), "README.md has no row\n{row}");
    }
}

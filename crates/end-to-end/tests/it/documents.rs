//! What the README and the pages in `docs/` show is what a user gets: their
//! commands are run, and the output is compared, times aside.

use std::{
    fs,
    path::{Path, PathBuf},
};

use grpc_wire::Mode;
use regex::Regex;
use test_support::BlockingServer as Server;

use crate::{Called as _, client, server};

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The README and its neighbours, and the pages in `docs/`.
fn documents() -> impl Iterator<Item = PathBuf> {
    let entries = ["", "docs"].into_iter().flat_map(|dir| fs::read_dir(Path::new(ROOT).join(dir)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|extension| extension == "md"))
}

#[test]
fn the_console_blocks_of_the_documents_are_true() {
    let texts: String = documents().map(|path| fs::read_to_string(path).unwrap()).collect();
    let blocks: Vec<_> =
        texts.split("```console\n").skip(1).map(|block| block.split("```").next().unwrap()).collect();
    assert!(blocks.len() >= 6, "only {} console blocks", blocks.len());
    for block in blocks {
        let (command, expected) = block.split_once('\n').unwrap();
        let command = command.strip_prefix("$ just ").unwrap_or_else(|| panic!("no recipe: {command}"));
        // A recipe for a mode hands its arguments to the client: see the next test.
        // Each command finds the server fresh, as its reader has it.
        let server = Server::start();
        let ended = server.client(command).current_dir(Path::new(ROOT)).run();
        let shown = [ended.stdout, ended.stderr].concat();
        let [mut expected, mut shown] = [expected, &shown].map(normalized);
        // Checks are told as they end.
        if command.starts_with("check ") {
            [expected, shown] = [expected, shown].map(sorted);
        }
        pretty_equal(&expected, &shown, command);
    }
}

/// The commands that start one of the programs, also by a recipe: the name, and the
/// arguments. They are lines of the blocks of `sh`, or recipes within a sentence.
fn commands(text: &str) -> impl Iterator<Item = (&'static str, String)> {
    let blocks = text.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    let within = text.split("`just ").skip(1).filter_map(|rest| rest.split_once('`'));
    let recipes = within.map(|(recipe, _)| recipe).filter(|recipe| !recipe.contains('\n'));
    let recipes = recipes.map(|recipe| format!("just {recipe}"));
    blocks.flat_map(str::lines).map(str::to_owned).chain(recipes).filter_map(|line| {
        let command = line.split(['#', '|', ';']).next().unwrap().trim();
        let (program, arguments) = match command.strip_prefix("just ") {
            Some(recipe) => match recipe.split_once(' ').unwrap_or((recipe, "")) {
                ("server", arguments) => ("fourmodes-server", arguments),
                ("tour" | "check" | "measure", _) => ("fourmodes", recipe),
                (mode, _) if Mode::ALL.iter().any(|it| it.name() == mode) => ("fourmodes", recipe),
                _ => return None,
            },
            None => match command.split_once(' ')? {
                ("fourmodes-server", arguments) => ("fourmodes-server", arguments),
                ("fourmodes", arguments) => ("fourmodes", arguments),
                _ => return None,
            },
        };
        Some((program, arguments.replace(" ID", " 7c0d6a3f-9c7e-4d53-8a1c-2f5b7f0e1d42")))
    })
}

#[test]
fn the_programs_know_the_commands_of_the_documents() {
    let texts: String = documents().map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut known = 0;
    for (program, arguments) in commands(&texts) {
        // What is before `--help` is parsed.
        let command = format!("{arguments} --help");
        match program {
            "fourmodes-server" => server(&command),
            _ => client(&command),
        }
        .run()
        .ok();
        known += 1;
    }
    assert!(known >= 50, "only {known} commands");
}

#[test]
fn each_mode_has_a_recipe_that_hands_its_arguments_to_the_client() {
    let justfile = fs::read_to_string(Path::new(ROOT).join("justfile")).unwrap();
    for mode in ["unary", "server-streaming", "client-streaming", "bidi-streaming"] {
        let recipe = format!(
            "positional-arguments]\n{mode} *scenario: ready\n    @exec {{{{ bin }}}}/fourmodes {mode} \"$@\"\n"
        );
        assert!(justfile.contains(&recipe), "no recipe like\n{recipe}");
    }
}

#[test]
fn the_links_of_the_documents_lead_somewhere() {
    let link = Regex::new(r"\]\(([^)#:]*)(#[^)]+)?\)").unwrap();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for found in link.captures_iter(&text) {
            let (file, anchor) = (&found[1], found.get(2).map(|anchor| &anchor.as_str()[1..]));
            let target = match file {
                "" => document.clone(),
                file => document.parent().unwrap().join(file),
            };
            let link = format!("{} links to {}", document.display(), &found[0]);
            assert!(target.exists(), "{link}: no such file");
            if target.extension().is_some_and(|extension| extension == "md") {
                assert!(in_book(&target), "{link}: docs/book/SUMMARY.md does not have that page");
            }
            let Some(anchor) = anchor else { continue };
            let anchors = anchors(&fs::read_to_string(&target).unwrap());
            assert!(anchors.iter().any(|it| it == anchor), "{link}: no such heading among {anchors:?}");
        }
    }
}

/// Whether the site has a page (`just book`), so that links to it work there.
fn in_book(page: &Path) -> bool {
    let root = fs::canonicalize(ROOT).unwrap();
    let page = fs::canonicalize(page).unwrap();
    let summary = fs::read_to_string(root.join("docs/book/SUMMARY.md")).unwrap();
    summary.contains(&format!("]({})", page.strip_prefix(&root).unwrap().display()))
}

#[test]
fn the_book_has_every_document() {
    for document in documents() {
        assert!(in_book(&document), "docs/book/SUMMARY.md does not have {}", document.display());
    }
}

/// Of the headings of a document, as GitHub makes them.
fn anchors(document: &str) -> Vec<String> {
    let prose = document.split("```").step_by(2);
    let headings = prose.flat_map(str::lines).filter(|line| line.starts_with('#'));
    let words = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let kept = words.map(|words| words.replace(|c: char| !c.is_alphanumeric() && !" -_".contains(c), ""));
    kept.map(|heading| heading.replace(' ', "-")).collect()
}

/// Times, dates, ports, and the widths that they take.
fn normalized(text: &str) -> String {
    let replacements = [
        (r"127\.0\.0\.1:\d+", "ADDRESS"),
        (r"─+", "─"),
        (r"(?m)^ *[\d.]+ (ms|s) ", "TIME "),
        (r"deadline \S+( \S+ms)?", "deadline TIME"),
        (r"in [\d.]+ s \(\d+/s\)", "in TIME"),
        (r"[\d.]+ (ms|s)\b", "TIME"),
        (r#""at_ms":[\d.]+"#, r#""at_ms":TIME"#),
        (r#""grpc-timeout":"\d+\w""#, r#""grpc-timeout":TIME"#),
        (r#""date":"[^"]+""#, r#""date":DATE"#),
    ];
    replacements.into_iter().fold(text.to_owned(), |text, (pattern, with)| {
        Regex::new(pattern).unwrap().replace_all(&text, with).into_owned()
    })
}

fn sorted(text: String) -> String {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn pretty_equal(expected: &str, shown: &str, command: &str) {
    for (expected, shown) in expected.lines().zip(shown.lines()) {
        assert_eq!(expected, shown, "in the output of {command}");
    }
    assert_eq!(expected.lines().count(), shown.lines().count(), "in the output of {command}:\n{shown}");
}

/// `cargo test` is faster without the crates that have no tests or examples in `src`.
#[test]
fn no_crate_leaves_out_tests_or_examples_that_it_has() {
    for entry in fs::read_dir(Path::new(ROOT).join("crates")).unwrap() {
        let root = entry.unwrap().path();
        let Ok(manifest) = fs::read_to_string(root.join("Cargo.toml")) else { continue };
        let mut code = String::new();
        let mut directories = vec![root.join("src")];
        while let Some(directory) = directories.pop() {
            for path in fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()) {
                match path.is_dir() {
                    true => directories.push(path),
                    false => code += &fs::read_to_string(path).unwrap_or_default(),
                }
            }
        }
        let library = manifest.split("\n[").find(|section| section.starts_with("lib]")).unwrap_or_default();
        if library.contains("\ntest = false") {
            assert!(!code.contains("#[test]") && !code.contains("::test]"), "{root:?} has tests");
        }
        if library.contains("\ndoctest = false") {
            let fences = code.lines().map(str::trim).filter(|line| line.starts_with("//"));
            let mut fences = fences.filter(|line| line.contains("```")).step_by(2);
            assert!(fences.all(|line| line.ends_with("```text")), "{root:?} has examples");
        }
    }
}

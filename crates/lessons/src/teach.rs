//! What a learner sees: on a terminal while it happens, or in `docs/lessons.md`.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use console::{Term, style};
use timeline::{Diagram, words::paragraph};
use tokio::time::timeout;

use crate::{Half, LESSONS, Lesson, proto::POOL};

/// No half of a lesson takes this long, unless it hangs where it should not.
const BOUND: Duration = Duration::from_secs(10);
/// Of the text around the diagrams, in columns, where a terminal is not narrower.
const WIDTH: usize = 100;

/// Lists the lessons.
///
/// # Errors
///
/// When nothing can be written.
pub fn index(out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "The traps of a first gRPC service. To run one, broken and then fixed: just lesson NAME\n"
    )?;
    let longest = LESSONS.iter().map(|lesson| lesson.name.len()).max().unwrap_or_default();
    for lesson in LESSONS {
        let name = format!("{:longest$}", lesson.name);
        writeln!(out, "  {}  {}", style(name).bold(), lesson.line)?;
    }
    Ok(())
}

/// Runs a lesson on stdout.
///
/// # Errors
///
/// When it cannot be run on this machine, or not be written.
pub async fn teach(lesson: &Lesson) -> anyhow::Result<()> {
    let out = &mut io::stdout();
    let width = Term::stdout().size_checked().map_or(WIDTH, |(_, columns)| WIDTH.min(columns.into()));
    writeln!(out, "{}: {}\n{}\n", style(lesson.name).bold(), lesson.line, style(place(lesson)).dim())?;

    writeln!(out, "{}", style("broken").red().bold())?;
    let diagram = Diagram::on_stdout(&POOL, transport::explain);
    let outcome = told(&diagram, (lesson.broken)(diagram.clone())).await?;
    writeln!(out, "{}\n", style(paragraph("✗ ", &outcome, width)).red())?;

    writeln!(out, "{}", style("fixed").green().bold())?;
    let diagram = Diagram::on_stdout(&POOL, transport::explain);
    let outcome = told(&diagram, (lesson.fixed)(diagram.clone())).await?;
    writeln!(out, "{}\n", style(paragraph("✓ ", &outcome, width)).green())?;

    let texts = [
        ("why", lesson.why),
        ("recognise", lesson.recognise),
        ("do", lesson.cure),
        ("elsewhere", lesson.elsewhere),
    ];
    for (heading, text) in texts {
        writeln!(out, "{}", paragraph(&format!("{heading:11}"), text, width))?;
    }
    Ok(())
}

/// Runs all lessons, and makes `docs/lessons.md` of them.
///
/// # Errors
///
/// When one cannot be run on this machine.
pub async fn markdown() -> anyhow::Result<String> {
    let mut page = String::from(INTRODUCTION);
    for lesson in LESSONS {
        writeln!(page, "| [`{0}`](#{0}) | {1} |", lesson.name, lesson.line)?;
    }
    for lesson in LESSONS {
        let Lesson { name, line, why, recognise, cure, elsewhere, .. } = lesson;
        let source = lesson.source();
        writeln!(page, "\n## {name}\n\nThe trap: {line}. The code: [`{source}`](../{source}).\n")?;
        let texts = [
            ("Why", why),
            ("How to recognise it", recognise),
            ("What to do", cure),
            ("Other stacks", elsewhere),
        ];
        for (heading, text) in texts {
            writeln!(page, "{}\n", paragraph("", &format!("**{heading}.** {text}"), WIDTH))?;
        }
        for (heading, mark, half) in [("Broken", "✗ ", lesson.broken), ("Fixed", "✓ ", lesson.fixed)] {
            let drawn = Drawn::default();
            let diagram = Diagram::timeless(drawn.clone(), &POOL, transport::explain);
            let outcome = told(&diagram, half(diagram.clone())).await.with_context(|| *name)?;
            writeln!(
                page,
                "{heading}:\n\n```text\n{}{}\n```\n",
                drawn.text(),
                paragraph(mark, &outcome, WIDTH)
            )?;
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
    }
    Ok(page)
}

const INTRODUCTION: &str = "\
# Lessons

[中文](lessons.zh-CN.md)

```sh
just lesson                     # lists the lessons
just lesson eof-is-not-commit   # runs the broken code, then the fixed code
```

Each lesson is a well-known trap of a first gRPC service in Rust. One file has the code that fails, and next to it the code
that works. `just lesson NAME` runs both and draws each message while it passes. `just lessons-doc` makes this page; the
diagrams here have no times.

The lessons use tonic. What they say of other Rust stacks is about connectrpc 0.9 and the client of the crate `grpc` 0.9,
which publishes no server. `just compare-traps` tries it.

| lesson | the trap |
|---|---|
";

/// Where the code of a lesson is, and in which line its trap is, if the source is
/// where it was when this was built.
fn place(lesson: &Lesson) -> String {
    let source = lesson.source();
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let text = std::fs::read_to_string(format!("{root}/{source}")).unwrap_or_default();
    match text.lines().position(|line| line.trim_start().starts_with("// The trap:")) {
        Some(line) => format!("{source}:{}", line + 1),
        None => source,
    }
}

/// Waits for a half and its diagram.
async fn told(diagram: &Diagram, half: Half) -> anyhow::Result<String> {
    let outcome = timeout(BOUND, half).await.with_context(|| {
        format!("the lesson did not end within {BOUND:?}: run it again on a less busy machine")
    })?;
    diagram.end().context("cannot write the diagram")?;
    outcome
}

/// What a diagram was drawn into.
#[derive(Clone, Default)]
struct Drawn(Arc<Mutex<Vec<u8>>>);

impl Drawn {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Drawn {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

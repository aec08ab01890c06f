//! A report as JUnit writes it, which CI systems read. All of it comes at the end:
//! XML has a beginning that counts what follows.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use http::Uri;
use timeline::words::printable;

use super::Renderer;
use crate::check::{Ended, Summary, outcome::Verdict};

pub(super) struct Junit<W> {
    out: W,
    server: String,
    cases: String,
}

impl<W> Junit<W> {
    pub(super) fn new(out: W, server: &Uri) -> Self {
        Self { out, server: server.to_string(), cases: String::new() }
    }
}

impl<W: Write + Send> Renderer for Junit<W> {
    fn ended(&mut self, Ended { group, name, time, outcome }: &Ended) -> io::Result<()> {
        let body = match outcome.verdict {
            Verdict::Pass => format!("<system-out>{}</system-out>", xml(&outcome.figure)),
            // JUnit knows no warnings.
            Verdict::Warn => format!(
                "<system-out>warning: {}: {}; {}</system-out>",
                xml(&outcome.figure),
                xml(&outcome.cause),
                xml(&outcome.remedy)
            ),
            Verdict::Fail => format!(
                "<failure message=\"{}: {}\">{}</failure>",
                xml(&outcome.figure),
                xml(&outcome.cause),
                xml(&outcome.remedy)
            ),
            Verdict::Skip => format!("<skipped message=\"{}\"/>", xml(&outcome.cause)),
        };
        let seconds = time.as_secs_f64();
        writeln!(
            self.cases,
            "    <testcase classname=\"{}\" name=\"{name}\" time=\"{seconds:.3}\">{body}</testcase>",
            group.name()
        )
        .map_err(io::Error::other)
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        let (mut tests, mut errors) = (summary.counts.iter().sum::<u64>(), 0);
        if let Some(failure) = &summary.failure {
            (tests, errors) = (tests + 1, 1);
            let message = xml(failure.message());
            writeln!(
                self.cases,
                "    <testcase classname=\"check\" name=\"all\"><error message=\"{message}\"/></testcase>"
            )
            .map_err(io::Error::other)?;
        }
        writeln!(
            self.out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"check {}\" \
             tests=\"{tests}\" failures=\"{}\" errors=\"{errors}\" skipped=\"{}\" time=\"{:.3}\">\n{}  \
             </testsuite>\n</testsuites>",
            xml(&self.server),
            summary.count(Verdict::Fail),
            summary.count(Verdict::Skip),
            summary.time.as_secs_f64(),
            self.cases,
        )?;
        self.out.flush()
    }
}

/// What cannot be seen is shown by its number: XML has no way to write most of it.
fn xml(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_does_not_become_xml() {
        assert_eq!(xml("<a b=\"c\">\u{1}&\n"), r"&lt;a b=&quot;c&quot;&gt;\u{1}&amp;\n");
    }
}

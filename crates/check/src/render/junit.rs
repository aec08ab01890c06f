//! A report as JUnit writes it, which CI systems read. All of it comes at the end:
//! XML has a beginning that counts what follows.

use std::io::{self, Write};

use http::Uri;
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use timeline::words::printable;

use crate::{
    outcome::Verdict,
    report::{Ended, Renderer, Summary},
};

pub(crate) struct Junit<W> {
    out: W,
    suite: TestSuite,
}

impl<W> Junit<W> {
    pub(crate) fn new(out: W, server: &Uri) -> Self {
        Self { out, suite: TestSuite::new(format!("check {server}")) }
    }
}

impl<W: Write + Send> Renderer for Junit<W> {
    fn ended(&mut self, Ended { group, name, time, outcome, .. }: &Ended) -> io::Result<()> {
        // What cannot be seen is shown by its number: XML has no way to write most of it.
        let [figure, cause, remedy] =
            [&outcome.figure, &outcome.cause, &outcome.remedy].map(|text| printable(text));
        let (status, said) = match outcome.verdict {
            Verdict::Pass => (TestCaseStatus::success(), Some(figure.into_owned())),
            // JUnit knows no warnings.
            Verdict::Warn => {
                (TestCaseStatus::success(), Some(format!("warning: {figure}: {cause}; {remedy}")))
            }
            Verdict::Fail => {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
                status.set_message(format!("{figure}: {cause}")).set_description(remedy);
                (status, None)
            }
            Verdict::Skip => {
                let mut status = TestCaseStatus::skipped();
                status.set_message(cause);
                (status, None)
            }
        };
        let mut case = TestCase::new(*name, status);
        case.set_classname(group.name()).set_time(*time);
        case.system_out = said.map(Into::into);
        self.suite.add_test_case(case);
        Ok(())
    }

    fn finish(&mut self, summary: &Summary) -> io::Result<()> {
        if let Some(failed) = &summary.failed {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(printable(&failed.message));
            let mut case = TestCase::new("all", status);
            case.set_classname("check");
            self.suite.add_test_case(case);
        }
        let mut report = Report::unnamed();
        self.suite.set_time(summary.time);
        report.add_test_suite(self.suite.clone());
        self.out.write_all(report.to_string().map_err(io::Error::other)?.as_bytes())?;
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{Group, outcome::Outcome};

    #[test]
    fn what_a_peer_says_does_not_become_xml() {
        let mut junit = Junit::new(Vec::new(), &Uri::from_static("http://a/"));
        let outcome = Outcome::fail("<a b=\"c\">\u{1}&\n", "cause", "remedy");
        let (group, time, evidence) = (Group::Modes, Duration::ZERO, serde_json::Value::Null);
        junit.ended(&Ended { group, name: "unary", time, outcome, evidence }).unwrap();
        junit.finish(&Summary { counts: [0; 4], time: Duration::ZERO, failed: None }).unwrap();
        let xml = String::from_utf8(junit.out).unwrap();
        assert!(xml.contains(r"&lt;a b=&quot;c&quot;&gt;\u{1}&amp;\n: cause"), "{xml}");
    }
}

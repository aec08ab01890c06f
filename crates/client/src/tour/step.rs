//! The steps of a demonstration.

use serde::Serialize;
use tonic::Code;

use crate::{failure::Failure, scenario::Scenario, session::Session};

/// One thing that was shown.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    pub(super) scenario: &'static str,
    pub(super) shown: String,
}

impl Step {
    pub(super) fn new(scenario: &'static str, shown: impl Into<String>) -> Self {
        Self { scenario, shown: shown.into() }
    }
}

/// A step that shows how the server refuses something: success is a failure.
pub(super) fn expect_code<T>(
    scenario: &'static str,
    ended: Result<T, Failure>,
    code: Code,
    what: &str,
) -> Result<Step, Failure> {
    match ended {
        Err(failure) if failure.is_status(code) => {
            Ok(Step::new(scenario, format!("{what} is rejected with {}", failure.code())))
        }
        Err(failure) => Err(failure),
        Ok(_) => Err(Failure::answer(format!("{what} was accepted"))),
    }
}

/// What a demonstration does besides: a server that does not serve it, or not to
/// this caller, is no failure.
pub(super) fn unless_refused<T>(ended: Result<T, Failure>) -> Result<(), Failure> {
    match ended {
        Err(failure)
            if ![Code::Unimplemented, Code::PermissionDenied].iter().any(|code| failure.is_status(*code)) =>
        {
            Err(failure)
        }
        _ => Ok(()),
    }
}

/// Runs a scenario to its end.
pub(super) async fn run<S: Scenario>(session: &Session, scenario: &S) -> Result<S::Report, Failure> {
    let mut report = S::Report::default();
    scenario.run(session, &mut report).await?;
    Ok(report)
}

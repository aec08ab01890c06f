//! Why a run failed: what was tried, what came back, the likely cause and the
//! next step.

mod advice;

use std::{
    env, fmt,
    io::{self, Write as _},
    net::SocketAddr,
    path::Path,
    process::ExitCode,
    time::Duration,
};

use console::Term;
use grpc_wire::{ERROR_DOMAIN, code_name};
use serde_json::{Value, json};
use shared_proto::Reason;
use timeline::{
    Failed, Stage, details,
    words::{columns, counted, paragraph, printable},
};
use tonic::{Code, Status};
use transport::{CallError, Connect, Kind, retry::Pushback};

/// Where other programs look for a proxy.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A run that did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) cause: Cause,
    pub(crate) stage: Stage,
    /// Whether it was a call to a server that may be anybody's.
    pub(crate) is_foreign: bool,
    /// Details of the server's status that `google.rpc` does not define, as JSON.
    pub(crate) more_details: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Cause {
    /// A call, or the connection for it.
    Call(CallError),
    /// The server answered, but not with what its proto promises.
    Answer(String),
    /// The user's file.
    Input(String),
    /// What was to be called or sent does not fit what there is; with the next step.
    Unfit(String, &'static str),
    /// stdout, the diagram or a file.
    Output(String, io::ErrorKind),
    /// What a protocol says that has no statuses.
    Other {
        code: &'static str,
        message: String,
        cause: &'static str,
        next: &'static str,
    },
    /// What any process needs.
    System(String),
    /// Where others were to call this program.
    Listen(String),
    Interrupted,
    /// Whoever read stdout has gone.
    ReaderGone,
}

impl Failure {
    fn new(cause: Cause) -> Self {
        Self { cause, stage: Stage::UnderWay, is_foreign: false, more_details: Vec::new() }
    }

    fn status(code: Code, message: impl Into<String>) -> Self {
        CallError::new(Kind::Status(code), message).into()
    }

    /// The call that failed, if it was one.
    fn call(&self) -> Option<&CallError> {
        match &self.cause {
            Cause::Call(call) => Some(call),
            _ => None,
        }
    }

    /// Whether it is this status, of a server or made here for want of one.
    pub(crate) fn is_status(&self, code: Code) -> bool {
        self.call().is_some_and(|call| call.kind == Kind::Status(code))
    }

    /// Whether the call may well go on over a new connection.
    pub(crate) fn is_lost_connection(&self) -> bool {
        self.call().is_some_and(CallError::is_lost_connection)
    }

    /// Whether this side made the status up, for want of one from the server.
    pub(crate) fn is_made_here(&self) -> bool {
        self.call().is_some_and(CallError::is_made_here)
    }

    /// Whether the call may go on over a new connection, and the server has nothing
    /// against it. Nobody else has the id of this member, so a call that has its seat is an
    /// older one of this client, which a server made late.
    pub(crate) fn may_be_tried_again(&self) -> bool {
        self.call().is_some_and(CallError::may_be_tried_again) || self.has_reason(Reason::TakenOver)
    }

    /// What the server asks for before the next attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.call().and_then(CallError::retry_after)
    }

    /// What the server says of another attempt at the same call.
    pub(crate) fn pushback(&self) -> Option<Pushback> {
        self.call().and_then(|call| call.pushback)
    }

    /// What came back, in the words of whoever refused.
    pub(crate) fn message(&self) -> &str {
        match &self.cause {
            Cause::Call(call) => &call.message,
            Cause::Answer(message)
            | Cause::Other { message, .. }
            | Cause::Input(message)
            | Cause::Unfit(message, _)
            | Cause::Output(message, _)
            | Cause::System(message)
            | Cause::Listen(message) => message,
            Cause::Interrupted => "interrupted",
            Cause::ReaderGone => "stdout was closed",
        }
    }

    /// Something that the user gave does not fit what there is.
    pub(crate) fn unfit(reason: impl fmt::Display, next: &'static str) -> Self {
        Self::new(Cause::Unfit(reason.to_string(), next))
    }

    /// Of an input that was wrong after so many messages of it.
    pub(crate) fn after_messages(mut self, sent: u64) -> Self {
        if let Cause::Unfit(message, _) | Cause::Input(message) = &mut self.cause {
            message.push_str(&format!("; the call was cancelled after {}", counted(sent, "message")));
        }
        self
    }

    pub(crate) fn input(file: &Path, reason: impl fmt::Display) -> Self {
        let name =
            if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        Self::new(Cause::Input(format!("{name}: {reason}")))
    }

    pub(crate) fn output(what: &str, error: &io::Error) -> Self {
        Self::new(Cause::Output(format!("{what} cannot be written: {error}"), error.kind()))
    }

    /// stdout takes no more.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Cause::ReaderGone),
            _ => Self::output("the output", error),
        }
    }

    /// Bytes are not what their checksum says.
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::status(Code::DataLoss, message)
    }

    /// Work that was handed to a thread did not come back.
    pub(crate) fn cut_short(error: &tokio::task::JoinError) -> Self {
        Self::new(Cause::System(format!("the work was interrupted: {error}")))
    }

    pub(crate) fn listen(address: SocketAddr, error: &io::Error) -> Self {
        Self::new(Cause::Listen(format!("cannot listen on {address}: {error}")))
    }

    pub(crate) fn signals(error: &io::Error) -> Self {
        Self::new(Cause::System(format!("cannot install signal handlers: {error}")))
    }

    pub(crate) fn threads(error: &io::Error) -> Self {
        Self::new(Cause::System(format!("cannot start threads: {error}")))
    }

    /// A code, what came back, the likely cause, and the next step.
    pub(crate) fn other(
        code: &'static str,
        message: String,
        cause: &'static str,
        next: &'static str,
    ) -> Self {
        Self::new(Cause::Other { code, message, cause, next })
    }

    pub(crate) fn answer(message: impl Into<String>) -> Self {
        Self::new(Cause::Answer(message.into()))
    }

    pub(crate) fn deadline(deadline: Duration) -> Self {
        let deadline = humantime::format_duration(deadline);
        Self::status(Code::DeadlineExceeded, format!("not done after {deadline}"))
    }

    /// A server among several that has not said in time that it serves.
    pub(crate) fn not_ready(time: Duration) -> Self {
        let message = format!("not ready after {}", humantime::format_duration(time));
        CallError::new(Kind::Connect(Connect::TimedOut), message).into()
    }

    /// One that has had a call for that long, and does not even say how it is.
    pub(crate) fn hangs(time: Duration) -> Self {
        let time = humantime::format_duration(time);
        Self::status(Code::Unavailable, format!("no heartbeat from the server for {time}"))
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Cause::Interrupted)
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match &self.cause {
            Cause::Input(_) | Cause::Unfit(..) => 3,
            Cause::Call(call) if call.kind == Kind::File => 3,
            Cause::Call(_)
            | Cause::Answer(_)
            | Cause::Other { .. }
            | Cause::Output(..)
            | Cause::System(_)
            | Cause::Listen(_) => 1,
            Cause::Interrupted => 130,
            Cause::ReaderGone => 141,
        }
    }

    /// The status, or a word for what is none.
    pub(crate) fn code(&self) -> &'static str {
        match &self.cause {
            Cause::Call(call) if call.kind == Kind::File => "INPUT",
            Cause::Call(call) => code_name(call.code()),
            Cause::Answer(_) => "UNEXPECTED_ANSWER",
            Cause::Other { code, .. } => code,
            Cause::Input(_) | Cause::Unfit(..) => "INPUT",
            Cause::Output(..) => "OUTPUT",
            Cause::System(_) | Cause::Listen(_) => "SYSTEM",
            Cause::Interrupted | Cause::ReaderGone => "INTERRUPTED",
        }
    }

    /// What most likely went wrong, and what to do.
    pub(crate) fn advice(&self) -> (&'static str, &'static str) {
        match &self.cause {
            Cause::Call(call) if self.is_foreign => call.advice().unwrap_or_else(|| self.advice_on_any(call)),
            Cause::Call(call) if call.kind == Kind::Connect(Connect::Refused) => (
                "nothing listens at that address",
                "start a server with `fourmodes-server all` (`just server`), or name another one with --server",
            ),
            Cause::Call(call) => call.advice().unwrap_or_else(|| self.advice_on_status(call)),
            Cause::Answer(_) if self.is_foreign => (
                "the server does not do what the mode of the method says, or what `measure` needs",
                "look at it with `fourmodes call`, which draws what passes",
            ),
            Cause::Answer(_) => (
                "the server speaks another version of the proto",
                "compare `fourmodes --version` on both sides",
            ),
            Cause::Other { cause, next, .. } => (cause, next),
            Cause::Input(_) => ("the input is invalid", "see the `--help` of this command"),
            Cause::Unfit(_, next) => ("it does not match the server or the method", next),
            Cause::Output(_, io::ErrorKind::AlreadyExists) => (
                "a file with that name exists, and is only replaced on request",
                "replace it with --force, or choose another file with --output-file",
            ),
            Cause::Output(..) => {
                ("the disk is full, the path is not writable, or it is a directory", "choose another path")
            }
            Cause::System(_) => ("the operating system rejected it", "see the error above"),
            Cause::Listen(_) => (
                "another program uses that port, or the address does not belong to this machine",
                "choose another address with --listen; port 0 picks a free port",
            ),
            Cause::Interrupted | Cause::ReaderGone => ("", ""),
        }
    }

    /// With what came of the last attempt, where there were some before the time was
    /// over.
    pub(crate) fn after(mut self, lost: Option<String>) -> Self {
        if let Cause::Call(call) = &mut self.cause
            && call.kind == Kind::Status(Code::DeadlineExceeded)
        {
            call.sources.extend(lost);
        }
        self
    }

    /// For the renderers.
    pub(crate) fn failed(&self) -> Failed {
        Failed { code: self.code(), message: self.message().to_owned(), json: self.json() }
    }

    /// Everything a program needs.
    pub(crate) fn json(&self) -> Value {
        let (cause, next) = self.advice();
        let mut error = json!({
            "code": self.code(),
            "message": self.message(),
            "details": self.call().map(|call| details(&call.details)).unwrap_or_default(),
            "sources": self.sources(),
        });
        if !self.more_details.is_empty() {
            let parsed = self.more_details.iter().filter_map(|detail| serde_json::from_str(detail).ok());
            error["more_details"] = Value::Array(parsed.collect());
        }
        if !cause.is_empty() {
            error["cause"] = cause.into();
            error["next"] = next.into();
        }
        error
    }

    /// Everything a person needs, on several lines.
    fn explained(&self, tried: &str) -> String {
        if matches!(self.cause, Cause::Interrupted | Cause::ReaderGone) {
            return format!("{}\n", self.message());
        }
        let (cause, next) = self.advice();
        let columns = columns(&Term::stderr());
        let row = |heading: &str, text: &str| match columns {
            Some(columns) => paragraph(heading, &printable(text), columns) + "\n",
            None => format!("{heading}{}\n", printable(text)),
        };
        let mut text = row("error: ", &format!("{}: {}", self.code(), self.message()));
        let mut line = |what: &str, value: &str| text.push_str(&row(&format!("  {what:<8}"), value));
        line("tried", tried);
        let details = self.call().map(|call| details(&call.details)).unwrap_or_default();
        details.iter().for_each(|detail| line("detail", &detail.text));
        self.more_details.iter().for_each(|detail| line("detail", detail));
        self.sources()
            .iter()
            .filter(|source| *source != self.message())
            .for_each(|source| line("from", source));
        if self.stage == Stage::Connecting
            && let Some(proxy) =
                PROXIES.iter().find(|name| env::var_os(name).is_some_and(|url| !url.is_empty()))
        {
            line("note", &format!("{proxy} is set but ignored: servers are called directly"));
        }
        line("cause", cause);
        line("next", next);
        text
    }

    fn sources(&self) -> &[String] {
        self.call().map_or(&[], |call| &call.sources)
    }

    /// Whether the server gave this reason.
    pub(crate) fn has_reason(&self, reason: Reason) -> bool {
        let info = self.call().and_then(|call| call.details.error_info());
        let ours = info.filter(|info| info.domain == ERROR_DOMAIN);
        ours.is_some_and(|info| info.reason.parse() == Ok(reason))
    }

    /// Tells the user, and the caller of the process.
    pub(crate) fn report(&self, tried: &str) -> ExitCode {
        // Nobody is left to tell when stderr is gone as well.
        let _ = io::stderr().write_all(self.explained(tried).as_bytes());
        ExitCode::from(self.exit_code())
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(Cause::Call(error))
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        CallError::from(status).into()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tonic_types::{ErrorDetails, StatusExt as _};

    use super::*;

    #[test]
    fn a_member_takes_its_seat_back_from_an_older_call_of_its_own() {
        let details = ErrorDetails::with_error_info("TAKEN_OVER", "fourmodes", HashMap::new());
        let taken_over = Status::with_error_details(Code::Aborted, "taken", details);
        assert!(Failure::from(taken_over).may_be_tried_again());
        assert!(!Failure::from(Status::aborted("taken")).may_be_tried_again());
    }

    #[test]
    fn programs_get_all_of_a_status_and_what_to_do() {
        let facts = HashMap::from([("next".to_owned(), "7".to_owned())]);
        let details = ErrorDetails::with_error_info("SEQUENCE_GAP", "fourmodes", facts);
        let status = Status::with_error_details(Code::FailedPrecondition, "5 is missing", details);
        assert_eq!(
            Failure::from(status).json(),
            json!({
                "code": "FAILED_PRECONDITION",
                "message": "5 is missing",
                "details": [{
                    "type": "ErrorInfo",
                    "reason": "SEQUENCE_GAP",
                    "text": "SEQUENCE_GAP (fourmodes) next=7",
                }],
                "sources": [],
                "cause": "the server does not have the earlier batches: another --data-dir, or a week has passed",
                "next": "deliver everything again, from the beginning",
            })
        );
    }
}

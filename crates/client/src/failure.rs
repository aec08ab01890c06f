//! Why a run failed: what was tried, what came back, the likely cause and the
//! next step.

use std::{
    error::Error,
    fmt,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use grpc_wire::{ERROR_DOMAIN, code_name};
use serde::Serialize;
use serde_json::{Value, json};
use shared_proto::{AnyReason, Reason};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

use crate::{retry::Pushback, tls::Trouble, words::printable};

/// A run that did not end well.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    /// What came back, in the words of whoever refused.
    pub(crate) message: String,
    pub(crate) details: Vec<Detail>,
    /// The errors below the message, outermost first. A status that a server
    /// sent has none.
    pub(crate) sources: Vec<String>,
    pub(crate) stage: Stage,
    /// What the server asks for before the next attempt.
    pub(crate) retry_after: Option<Duration>,
    /// Likewise, of who makes the same call again.
    pub(crate) pushback: Option<Pushback>,
}

/// How far a run got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No connection yet.
    Connecting,
    /// A call was made, and nothing came back, not even a header.
    Unanswered,
    UnderWay,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No connection.
    Connect(Connect),
    /// A status, from the server or from the transport.
    Status(Code),
    /// The server answered, but not with what its proto promises.
    Answer,
    /// The user's file.
    Input,
    /// stdout or the diagram.
    Output,
    /// What any process needs.
    System,
    Interrupted,
    /// Whoever read stdout has gone.
    ReaderGone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Connect {
    NoSuchHost,
    Refused,
    TimedOut,
    /// TLS is not, or not as it should be.
    Tls(Trouble),
    Other,
}

/// One of the `google.rpc` messages in a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Detail {
    #[serde(rename = "type")]
    pub(crate) name: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
    /// The reason, when it is one of a Four Modes server.
    #[serde(skip)]
    pub(crate) known: Option<AnyReason>,
    pub(crate) text: String,
}

impl Failure {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            details: Vec::new(),
            sources: Vec::new(),
            stage: Stage::UnderWay,
            retry_after: None,
            pushback: None,
        }
    }

    /// Whether the call may well go on over a new connection: this one is gone,
    /// or the server that is behind it, or the server says when to come back.
    pub(crate) fn is_lost_connection(&self) -> bool {
        match self.kind {
            // The server may just be going away.
            Kind::Connect(Connect::Tls(Trouble::Closed)) => true,
            // The next connection would be refused for the same reason.
            Kind::Connect(Connect::Tls(_)) => false,
            Kind::Connect(_) | Kind::Status(Code::Unavailable) => true,
            Kind::Status(Code::DeadlineExceeded) => false,
            Kind::Status(Code::Aborted) if self.retry_after.is_some() => true,
            // tonic gives what the transport said one of half a dozen codes.
            Kind::Status(_) => self.is_made_here(),
            _ => false,
        }
    }

    /// Whether this side made the status up, for want of one from the server.
    pub(crate) fn is_made_here(&self) -> bool {
        !self.sources.is_empty()
    }

    /// Likewise, and the server has nothing against it.
    pub(crate) fn may_be_tried_again(&self) -> bool {
        self.is_lost_connection() && self.pushback != Some(Pushback::Never)
    }

    pub(crate) fn input(file: &Path, reason: impl fmt::Display) -> Self {
        let name =
            if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        Self::new(Kind::Input, format!("{name}: {reason}"))
    }

    pub(crate) fn output(what: &str, error: &io::Error) -> Self {
        Self::new(Kind::Output, format!("{what} cannot be written: {error}"))
    }

    /// There can be no TLS, whatever the server does.
    pub(crate) fn tls(reason: String) -> Self {
        Self::new(Kind::Connect(Connect::Tls(Trouble::Other)), reason)
    }

    /// Bytes are not what their checksum says.
    pub(crate) fn damaged(message: impl Into<String>) -> Self {
        Self::new(Kind::Status(Code::DataLoss), message)
    }

    /// Work that was handed to a thread did not come back.
    pub(crate) fn cut_short(error: &tokio::task::JoinError) -> Self {
        Self::new(Kind::System, format!("the work was cut short: {error}"))
    }

    /// There is no room for figures.
    pub(crate) fn figures(error: &hdrhistogram::CreationError) -> Self {
        Self::new(Kind::System, format!("no histogram can be made: {error}"))
    }

    pub(crate) fn signals(error: &io::Error) -> Self {
        Self::new(Kind::System, format!("the handlers for signals cannot be installed: {error}"))
    }

    pub(crate) fn answer(message: impl Into<String>) -> Self {
        Self::new(Kind::Answer, message)
    }

    pub(crate) fn deadline(deadline: Duration) -> Self {
        let deadline = humantime::format_duration(deadline);
        Self::new(Kind::Status(Code::DeadlineExceeded), format!("not done after {deadline}"))
    }

    /// A stream on which there should have been something by now.
    pub(crate) fn silent(silence: Duration) -> Self {
        let silence = humantime::format_duration(silence);
        Self::new(
            Kind::Status(Code::Unavailable),
            format!("the server has been silent for {silence}, without a heartbeat"),
        )
    }

    /// A server among several that has not said in time that it serves.
    pub(crate) fn not_ready(time: Duration) -> Self {
        let time = humantime::format_duration(time);
        Self::new(Kind::Connect(Connect::TimedOut), format!("not ready after {time}"))
    }

    /// One that has had a call for that long, and does not even say how it is.
    pub(crate) fn hangs(time: Duration) -> Self {
        let time = humantime::format_duration(time);
        Self::new(Kind::Status(Code::Unavailable), format!("the server has given no sign of life for {time}"))
    }

    /// One that says something else.
    pub(crate) fn not_serving(status: &str) -> Self {
        Self::new(Kind::Status(Code::Unavailable), format!("the server says that it is {status}"))
    }

    pub(crate) fn interrupted() -> Self {
        Self::new(Kind::Interrupted, "interrupted")
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Connect(_) | Kind::Status(_) | Kind::Answer | Kind::Output | Kind::System => 1,
            Kind::Input => 3,
            Kind::Interrupted => 130,
            Kind::ReaderGone => 141,
        }
    }

    /// The status, or a word for what is none.
    pub(crate) fn code(&self) -> &'static str {
        match self.kind {
            Kind::Connect(_) => code_name(Code::Unavailable),
            Kind::Status(code) => code_name(code),
            Kind::Answer => "UNEXPECTED_ANSWER",
            Kind::Input => "INPUT",
            Kind::Output => "OUTPUT",
            Kind::System => "SYSTEM",
            Kind::Interrupted | Kind::ReaderGone => "INTERRUPTED",
        }
    }

    /// What most likely went wrong, and what to do.
    pub(crate) fn advice(&self) -> (&'static str, &'static str) {
        let start = "start a server with `server all` (`just server`), or name another one with --server";
        match self.kind {
            Kind::Connect(Connect::NoSuchHost) => {
                ("the name of the host cannot be resolved", "check the spelling of --server")
            }
            Kind::Connect(Connect::Refused) => ("nothing listens at that address", start),
            Kind::Connect(Connect::TimedOut) => {
                ("the host is away, or a firewall swallows the connection", "check the address and the port")
            }
            Kind::Connect(Connect::Tls(trouble)) => trouble.advice(),
            Kind::Connect(Connect::Other) => ("the network refused the connection", "see the errors above"),
            Kind::Status(code) => self.advice_on_status(code),
            Kind::Answer => {
                ("the server speaks another version of the proto", "compare `client --version` on both sides")
            }
            Kind::Input => ("the input cannot be used", "see the `--help` of this command"),
            Kind::Output => (
                "there is no room, the place is not writable, or something is in the way",
                "choose another place",
            ),
            Kind::System => ("the system refused it", "see the error above"),
            Kind::Interrupted | Kind::ReaderGone => ("", ""),
        }
    }

    /// Everything a program needs.
    pub(crate) fn json(&self) -> Value {
        let (cause, next) = self.advice();
        let mut error = json!({
            "code": self.code(),
            "message": self.message,
            "details": self.details,
            "sources": self.sources,
        });
        if !cause.is_empty() {
            error["cause"] = cause.into();
            error["next"] = next.into();
        }
        error
    }

    /// Everything a person needs, on several lines.
    fn explained(&self, tried: &str) -> String {
        if matches!(self.kind, Kind::Interrupted | Kind::ReaderGone) {
            return format!("{}\n", self.message);
        }
        let (cause, next) = self.advice();
        let mut text = format!("error: {}: {}\n", self.code(), printable(&self.message));
        let mut line = |what: &str, value: &str| text.push_str(&format!("  {what:<8}{}\n", printable(value)));
        line("tried", tried);
        self.details.iter().for_each(|detail| line("detail", &detail.text));
        self.sources.iter().filter(|source| **source != self.message).for_each(|source| line("from", source));
        line("cause", cause);
        line("next", next);
        text
    }

    /// Whether the server gave this reason.
    pub(crate) fn has_reason(&self, reason: Reason) -> bool {
        self.details.iter().any(|detail| detail.known == Some(AnyReason::Product(reason)))
    }

    fn advice_on_status(&self, code: Code) -> (&'static str, &'static str) {
        let is_reason = |reason| self.has_reason(reason);
        let from_transport = self.is_made_here();
        match code {
            code if self.stage == Stage::Unanswered && from_transport && code != Code::DeadlineExceeded => (
                "what accepted the connection there does not speak HTTP/2 without TLS, or is not alive",
                "check that it is a gRPC server, and the port: gRPC often has one of its own",
            ),
            Code::Unimplemented if is_reason(Reason::ModeNotServed) => {
                ("the server was started for other modes", "start it with `server all`, or choose its mode")
            }
            Code::Unimplemented => (
                "this is a gRPC server without this service",
                "name a Four Modes server with --server; `server all` starts one",
            ),
            Code::DeadlineExceeded if self.stage == Stage::Connecting => (
                "no connection in time: too little of it, or the host is away, or a firewall swallows everything",
                "give it more with --deadline, and check the address",
            ),
            Code::DeadlineExceeded if self.stage == Stage::Unanswered => (
                "nothing came back in time: too little of it, or no gRPC server, or one that is not alive",
                "give it more with --deadline, and check the address",
            ),
            Code::DeadlineExceeded => {
                ("the work takes longer than it was given", "give it more with --deadline")
            }
            // The page of a proxy, in either of the words that tonic has for it.
            _ if self.message.contains("mapped from HTTP status code")
                || self.message.contains("while receiving response with status: 5") =>
            {
                (
                    "what answers there is no gRPC server, or a proxy that does not pass gRPC on",
                    "name a gRPC server with --server",
                )
            }
            Code::InvalidArgument if is_reason(Reason::RequestIdReused) => {
                ("that id was used for another task", "leave --request-id out to get a new one")
            }
            Code::InvalidArgument if is_reason(Reason::ChecksumMismatch) => (
                "the file was changed while it was uploaded, or bytes were changed on their way",
                "the same command again uploads the file as it is now",
            ),
            Code::Aborted if is_reason(Reason::Superseded) => {
                ("the same upload was started once more", "let that one finish, or start this one again")
            }
            Code::ResourceExhausted if is_reason(Reason::DiskFull) => (
                "the disk of the server has no room; what is on it by now is kept",
                "make room there; the same command again goes on",
            ),
            Code::ResourceExhausted if is_reason(Reason::TooManyUploads) => {
                ("others are being uploaded, or were not finished", "come back later; each is kept for a day")
            }
            Code::DataLoss => {
                ("bytes were changed on their way or on a disk", "try again; then look at the disks")
            }
            Code::InvalidArgument => {
                ("a value in the request is not allowed", "change it as the message says")
            }
            Code::OutOfRange => {
                ("a value is outside of what the server can represent, or no longer has", "choose one inside")
            }
            Code::NotFound => (
                "it never was there, or is not any more",
                "check the name or the id; `client unary files` lists the files",
            ),
            Code::FailedPrecondition if is_reason(Reason::TaskEnded) => {
                ("the task was faster", "ask for its result with `unary task ID`")
            }
            Code::FailedPrecondition if is_reason(Reason::NoLogRoot) => {
                ("the server was started without a log directory", "start it with --log-root DIR")
            }
            Code::AlreadyExists => ("somebody else has it", "choose another name"),
            Code::FailedPrecondition if is_reason(Reason::SequenceGap) => (
                "the server has not what was delivered before: another --data-dir, or a week has passed",
                "deliver all of it again, from the beginning",
            ),
            Code::Aborted if is_reason(Reason::ProducerFenced) => (
                "the same is being delivered by somebody else right now",
                "wait for that one; two of them need a --producer each, and count twice",
            ),
            Code::FailedPrecondition => {
                ("the request does not fit the state of the call", "do first what the message asks for")
            }
            Code::Unauthenticated => (
                "the server does not know who calls",
                "set FOURMODES_TOKEN to the token, or --token-file to a file with it",
            ),
            Code::PermissionDenied => {
                ("the token is not for this", "ask for the mode in the server's --tokens-file")
            }
            Code::ResourceExhausted => ("a limit was reached", "ask for less, or come back later"),
            Code::Unavailable => ("the server is going away or has gone", "try again in a moment"),
            Code::Unknown | Code::Internal | Code::Cancelled if from_transport => {
                ("the connection broke while the call was under way", "try again; look at the server's log")
            }
            Code::Unknown | Code::Internal => ("the server failed", "look at its log"),
            _ => ("the server refused", "look at its log"),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if status.source().is_some() {
            return Self::from_transport(&status);
        }
        // What tonic's servers say of a deadline that passed on their side.
        let code = match (status.code(), status.message()) {
            (Code::Cancelled, "Timeout expired") => Code::DeadlineExceeded,
            (code, _) => code,
        };
        let mut failure = Self::new(Kind::Status(code), status.message());
        failure.details = details(&status);
        failure.retry_after = status.get_details_retry_info().and_then(|retry| retry.retry_delay);
        failure.pushback = Pushback::of(status.metadata());
        failure
    }
}

impl Failure {
    /// A call that ended without a status of the server's.
    ///
    /// tonic gives such a call one of half a dozen codes, depending on the layer
    /// that noticed. A lost connection is UNAVAILABLE and a deadline that has
    /// passed DEADLINE_EXCEEDED here, as in the other gRPC libraries.
    pub(crate) fn from_transport(error: &(dyn Error + 'static)) -> Self {
        let status = error.downcast_ref::<Status>();
        let sources = match status {
            Some(status) => sources(status.source()),
            None => sources(Some(error)),
        };
        if let Some(trouble) = Trouble::of(&sources) {
            return Self { sources, ..trouble.into() };
        }
        let is = |check: fn(&(dyn Error + 'static)) -> bool| chain(error).any(check);
        let last = sources.last().cloned().unwrap_or_else(|| error.to_string());
        let (code, message) = if is(|error| error.is::<TimeoutExpired>()) {
            (Code::DeadlineExceeded, "the deadline has passed".to_owned())
        } else if is(|error| error.is::<io::Error>()) {
            (Code::Unavailable, format!("the connection was lost: {last}"))
        } else {
            (
                status.map_or(Code::Unavailable, Status::code),
                status.map_or(last, |status| status.message().to_owned()),
            )
        };
        Self { sources, ..Self::new(Kind::Status(code), message) }
    }

    /// stdout takes no more.
    pub(crate) fn unwritten(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::new(Kind::ReaderGone, "nobody reads stdout any more"),
            _ => Self::output("the output", error),
        }
    }

    /// Tells the user, and the caller of the process.
    pub(crate) fn report(&self, tried: &str) -> ExitCode {
        // Nobody is left to tell when stderr is gone as well.
        let _ = io::stderr().write_all(self.explained(tried).as_bytes());
        ExitCode::from(self.exit_code())
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self::new(Kind::Connect(Connect::Tls(trouble)), trouble.to_string())
    }
}

impl From<tonic::transport::Error> for Failure {
    fn from(error: tonic::transport::Error) -> Self {
        let mut kind = Connect::Other;
        for error in chain(&error) {
            match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::ConnectionRefused) => kind = Connect::Refused,
                Some(io::ErrorKind::TimedOut) => kind = Connect::TimedOut,
                _ if error.to_string().contains("dns error") => kind = Connect::NoSuchHost,
                _ => {}
            }
        }
        let sources = sources(error.source());
        if let Some(trouble) = Trouble::of(&sources) {
            return Self { sources, ..trouble.into() };
        }
        // The chain repeats itself on the way down; its end says the most.
        let message = sources.last().cloned().unwrap_or_else(|| error.to_string());
        Self { sources, ..Self::new(Kind::Connect(kind), message) }
    }
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn sources(below: Option<&(dyn Error + 'static)>) -> Vec<String> {
    let mut sources: Vec<String> = below.into_iter().flat_map(chain).map(ToString::to_string).collect();
    sources.dedup();
    sources
}

/// The `google.rpc` messages of a status, in words.
pub(crate) fn details(status: &Status) -> Vec<Detail> {
    let mut found = Vec::new();
    let details = status.get_error_details();
    if let Some(info) = details.error_info() {
        let mut facts: Vec<_> = info.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        facts.sort();
        found.push(Detail {
            name: "ErrorInfo",
            reason: info.reason.clone(),
            known: Some(info)
                .filter(|info| info.domain == ERROR_DOMAIN)
                .and_then(|info| AnyReason::from_name(&info.reason)),
            text: format!("{} ({}) {}", info.reason, info.domain, facts.join(" ")),
        });
    }
    let mut add = |name, text: String| found.push(Detail { name, reason: String::new(), known: None, text });
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        add("BadRequest", format!("{}: {}", violation.field, violation.description));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        add("RetryInfo", format!("again after {}", humantime::format_duration(delay)));
    }
    for violation in details.quota_failure().into_iter().flat_map(|quota| &quota.violations) {
        add("QuotaFailure", format!("{}: {}", violation.subject, violation.description));
    }
    if let Some(resource) = details.resource_info() {
        let text = format!("{} {}: {}", resource.resource_type, resource.resource_name, resource.description);
        add("ResourceInfo", text);
    }
    found
}

#[cfg(test)]
mod tests {
    use h2::Reason;

    use super::*;

    #[test]
    fn a_lost_connection_has_five_faces() {
        let from_h2 = |reason: Reason| Status::from_error(Box::new(h2::Error::from(reason)));
        let faces = [
            (Code::Unavailable, from_h2(Reason::REFUSED_STREAM)),
            (Code::Unknown, Status::from_error("channel closed".into())),
            (Code::Internal, from_h2(Reason::PROTOCOL_ERROR)),
            (Code::Cancelled, from_h2(Reason::CANCEL)),
            (Code::ResourceExhausted, from_h2(Reason::ENHANCE_YOUR_CALM)),
        ];
        for (code, face) in faces {
            assert_eq!(face.code(), code);
            assert!(Failure::from(face).may_be_tried_again(), "{code:?}");
            // The same as an answer of the server's is one.
            let answer = Failure::from(Status::new(code, "no"));
            assert_eq!(answer.may_be_tried_again(), code == Code::Unavailable, "{code:?}");
        }
        assert!(!Failure::from(Status::from_error(Box::new(TimeoutExpired(())))).may_be_tried_again());
    }

    #[test]
    fn of_what_is_wrong_with_tls_only_the_end_of_the_connection_may_pass() {
        assert!(Failure::from(Trouble::Closed).may_be_tried_again());
        for trouble in [Trouble::UnknownCa, Trouble::Expired, Trouble::CertificateRequired, Trouble::NoTls] {
            assert!(!Failure::from(trouble).may_be_tried_again(), "{trouble:?}");
        }
    }

    #[test]
    fn a_server_that_wants_no_other_attempt_gets_none() {
        let mut status = Status::unavailable("for good");
        status.metadata_mut().insert("grpc-retry-pushback-ms", "-1".parse().unwrap());
        let failure = Failure::from(status);
        assert!(failure.is_lost_connection() && !failure.may_be_tried_again());
    }
}

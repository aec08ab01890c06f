//! What most likely went wrong, by the status of a call, and what to do.

use shared_proto::Reason;
use timeline::Stage;
use tonic::Code;
use transport::CallError;

use super::Failure;

impl Failure {
    /// What a status of a server means that nobody here knows.
    pub(super) fn advice_on_any(&self, call: &CallError) -> (&'static str, &'static str) {
        let from_transport = call.is_made_here();
        match call.code() {
            code if self.stage == Stage::Unanswered && from_transport && code != Code::DeadlineExceeded => (
                "what accepted the connection there does not speak HTTP/2, or is not alive; a TLS server wants https://",
                "check that it is a gRPC server, and the port; for TLS write https://host:port",
            ),
            Code::Unimplemented => (
                "the server does not have this method, or a proxy between does not pass it on",
                "list what it has: `fourmodes call` with its address alone",
            ),
            Code::DeadlineExceeded => {
                ("the call takes longer than it was given", "give it more with --deadline")
            }
            Code::OutOfRange | Code::ResourceExhausted => (
                "a limit was reached: of the server, or of this side, which takes messages up to --max-message",
                "ask for less, or allow more with --max-message",
            ),
            Code::Unauthenticated => (
                "the server does not know who calls",
                "give what it wants: -H 'authorization: …', --token-file, or --cert and --key",
            ),
            Code::PermissionDenied => ("who calls may not do this", "call as somebody who may"),
            Code::InvalidArgument => (
                "a value in the request is not allowed",
                "change it as the message says; --template shows all fields",
            ),
            Code::Unavailable => {
                ("the server, or one behind it, is away", "try again; --max-attempts does it by itself")
            }
            Code::Unknown | Code::Internal | Code::Cancelled if from_transport => {
                ("the connection broke while the call was under way", "try again; look at the server's log")
            }
            _ => ("the server refused", "look at its log"),
        }
    }

    pub(super) fn advice_on_status(&self, call: &CallError) -> (&'static str, &'static str) {
        let is_reason = |reason| self.has_reason(reason);
        let missing = call.details.resource_info();
        let is_missing = |kind| missing.is_some_and(|missing| missing.resource_type == kind);
        let from_transport = call.is_made_here();
        match call.code() {
            code if self.stage == Stage::Unanswered && from_transport && code != Code::DeadlineExceeded => (
                "what accepted the connection there does not speak HTTP/2 without TLS, or is not alive",
                "check that it is a gRPC server, and the port: gRPC often has one of its own",
            ),
            Code::Unimplemented if is_reason(Reason::ModeNotServed) => (
                "the server was started for other modes",
                "start it with `fourmodes-server all`, or choose its mode",
            ),
            Code::Unimplemented => (
                "this is a gRPC server without this service",
                "name a Four Modes server with --server; `fourmodes-server all` starts one",
            ),
            Code::DeadlineExceeded if self.stage == Stage::Connecting && !call.sources.is_empty() => (
                "no server was there in time; `from` says what came of the last attempt",
                "start the server, or check the address",
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
            Code::NotFound if is_missing("file") => (
                "no file of that name is below the directory of logs that the server was started with",
                "name it relative to --log-root DIR of the server",
            ),
            Code::NotFound if is_missing("fourmodes.v1.Task") => (
                "the server has no task of that id, or has forgotten it; another --data-dir has other tasks",
                "use the id that `fourmodes unary submit` printed",
            ),
            Code::NotFound => (
                "it never was there, or is not any more",
                "check the name or the id; `fourmodes unary files` lists the files",
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

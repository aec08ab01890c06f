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
                "the peer does not speak HTTP/2, or hangs; a TLS server needs https://",
                "check that it is a gRPC server, and the port; for TLS write https://host:port",
            ),
            Code::Unimplemented => (
                "the server does not have this method, or a proxy does not forward it",
                "list its services: `fourmodes call` with only the address",
            ),
            Code::DeadlineExceeded => ("the call takes longer than its deadline", "set a longer --deadline"),
            Code::OutOfRange | Code::ResourceExhausted => (
                "a limit was reached: of the server, or of this client (--max-message)",
                "request less, or raise --max-message",
            ),
            Code::Unauthenticated => (
                "the server requires credentials",
                "provide them: -H 'authorization: …', --token-file, or --cert and --key",
            ),
            Code::PermissionDenied => ("the caller may not do this", "use other credentials"),
            Code::InvalidArgument => (
                "a value in the request is not allowed",
                "change it as the message says; --template shows all fields",
            ),
            Code::Unavailable => (
                "the server, or a server behind it, is unavailable",
                "try again; --max-attempts retries automatically",
            ),
            Code::Unknown | Code::Internal | Code::Cancelled if from_transport => {
                ("the connection broke during the call", "try again; read the server's log")
            }
            _ => ("the server rejected the call", "read its log"),
        }
    }

    pub(super) fn advice_on_status(&self, call: &CallError) -> (&'static str, &'static str) {
        let is_reason = |reason| self.has_reason(reason);
        let missing = call.details.resource_info();
        let is_missing = |kind| missing.is_some_and(|missing| missing.resource_type == kind);
        let from_transport = call.is_made_here();
        match call.code() {
            code if self.stage == Stage::Unanswered && from_transport && code != Code::DeadlineExceeded => (
                "the peer does not speak HTTP/2 without TLS, or hangs",
                "check that it is a gRPC server, and the port: gRPC often has a separate port",
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
                "no server was reachable in time; `from` has the error of the last attempt",
                "start the server, or check the address",
            ),
            Code::DeadlineExceeded if self.stage == Stage::Connecting => (
                "no connection in time: the deadline is too short, the host is unreachable, or a firewall drops everything",
                "set a longer --deadline, and check the address",
            ),
            Code::DeadlineExceeded if self.stage == Stage::Unanswered => (
                "no answer in time: the deadline is too short, or the peer is not a working gRPC server",
                "set a longer --deadline, and check the address",
            ),
            Code::DeadlineExceeded => ("the work takes longer than the deadline", "set a longer --deadline"),
            Code::InvalidArgument if is_reason(Reason::RequestIdReused) => {
                ("that id was used for another task", "omit --request-id to get a new id")
            }
            Code::InvalidArgument if is_reason(Reason::ChecksumMismatch) => (
                "the file changed during the upload, or bytes were corrupted",
                "repeat the command to upload the file as it is now",
            ),
            Code::Aborted if is_reason(Reason::Superseded) => {
                ("the same upload was started again", "let the other upload finish, or start this one again")
            }
            Code::ResourceExhausted if is_reason(Reason::DiskFull) => (
                "the server's disk is full; the data on it is kept",
                "free disk space there, then repeat the command to resume",
            ),
            Code::ResourceExhausted if is_reason(Reason::TooManyUploads) => (
                "too many other uploads are running or unfinished",
                "try again later; unfinished uploads are removed after a day",
            ),
            Code::DataLoss => (
                "bytes were corrupted on the path or on a disk",
                "try again; if it fails again, check the disks",
            ),
            Code::InvalidArgument => {
                ("a value in the request is not allowed", "change it as the message says")
            }
            Code::OutOfRange => (
                "a value is outside of the range that the server supports or still has",
                "choose a value inside the range",
            ),
            Code::NotFound if is_missing("file") => (
                "the server's log directory has no file of that name",
                "name it relative to the server's --log-root DIR",
            ),
            Code::NotFound if is_missing("fourmodes.v1.Task") => (
                "the server has no task with that id, or has removed it; another --data-dir has other tasks",
                "use the id that `fourmodes unary submit` printed",
            ),
            Code::NotFound => (
                "it never existed, or was removed",
                "check the name or the id; `fourmodes unary files` lists the files",
            ),
            Code::FailedPrecondition if is_reason(Reason::TaskEnded) => {
                ("the task ended first", "ask for its result with `unary task ID`")
            }
            Code::FailedPrecondition if is_reason(Reason::NoLogRoot) => {
                ("the server was started without a log directory", "start it with --log-root DIR")
            }
            Code::AlreadyExists => ("it is already taken", "choose another name"),
            Code::FailedPrecondition if is_reason(Reason::SequenceGap) => (
                "the server does not have the earlier batches: another --data-dir, or a week has passed",
                "deliver everything again, from the beginning",
            ),
            Code::Aborted if is_reason(Reason::ProducerFenced) => (
                "another client delivers under the same name right now",
                "wait for it; two clients need different --producer names, and their readings count twice",
            ),
            Code::FailedPrecondition => {
                ("the request does not fit the state of the call", "first do what the message says")
            }
            Code::Unauthenticated => (
                "the server requires credentials",
                "set FOURMODES_TOKEN to the token, or --token-file to a file with it",
            ),
            Code::PermissionDenied => {
                ("the token does not allow this mode", "add the mode in the server's --tokens-file")
            }
            Code::ResourceExhausted => ("a limit was reached", "request less, or try again later"),
            Code::Unavailable => ("the server is stopping, or has stopped", "try again in a moment"),
            Code::Unknown | Code::Internal | Code::Cancelled if from_transport => {
                ("the connection broke during the call", "try again; read the server's log")
            }
            Code::Unknown | Code::Internal => ("the server failed", "read its log"),
            _ => ("the server rejected the call", "read its log"),
        }
    }
}

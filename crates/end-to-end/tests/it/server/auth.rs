//! Who may call, and what everyone else is told.

use std::{io::Write as _, net::SocketAddr};

use shared_proto::{
    bytestream::{QueryWriteStatusRequest, byte_stream_client::ByteStreamClient},
    fourmodes::v1::{
        DeleteDocumentRequest, DeleteFileRequest, DeleteRoomRequest, MultiplyRequest, MultiplyResponse,
        RecordReadingsRequest, ServerStreamingRequest, UnaryRequest, WatchQuotesRequest,
        probe_service_client::ProbeServiceClient,
    },
};
use stack::{Limits, Settings, Tokens};
use tempfile::NamedTempFile;
use test_support::{
    RawCall, Server, channel, client_streaming, reason, run, server_streaming, unary, until, within,
};
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_client::ServerReflectionClient};

use crate::server::binary;

/// As the file of tokens has it.
pub(crate) fn hash(token: &str) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tokens() -> Tokens {
    let mut file = NamedTempFile::new().unwrap();
    let [ana, ben, eve] = ["ana's", "ben's", "eve's"].map(hash);
    write!(file, "# who may call\n\nana {ana} all\nben {ben} unary\neve {eve} client-streaming\n").unwrap();
    Tokens::read(file.path()).unwrap()
}

async fn start() -> Server {
    Server::with(Settings { tokens: Some(tokens()), ..Settings::default() }.into()).await
}

fn with<M>(authorization: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    request
}

async fn multiply(server: &Server, authorization: &str) -> Result<MultiplyResponse, Status> {
    multiply_at(server.address, authorization).await
}

async fn multiply_at(address: SocketAddr, authorization: &str) -> Result<MultiplyResponse, Status> {
    let request = with(authorization, MultiplyRequest { a: 6, b: 7 });
    unary(address).multiply(request).await.map(Response::into_inner)
}

#[test]
fn a_call_needs_a_token_that_is_known() {
    run(async {
        let server = start().await;
        for known in ["Bearer ana's", "bearer ana's", "Bearer ben's"] {
            assert_eq!(multiply(&server, known).await.unwrap().product, 42, "{known}");
        }
        for (wrong, expected) in [
            ("", "TOKEN_MISSING"),
            ("Bearer ", "TOKEN_MISSING"),
            ("Basic YW5hOmFuYQ==", "TOKEN_MISSING"),
            ("ana's", "TOKEN_MISSING"),
            ("Bearer ana", "TOKEN_UNKNOWN"),
            ("Bearer ana's ", "TOKEN_UNKNOWN"),
        ] {
            let refused = multiply(&server, wrong).await.unwrap_err();
            assert_eq!(
                (refused.code(), reason(&refused).as_str()),
                (Code::Unauthenticated, expected),
                "{wrong:?}"
            );
        }
        // Also a method that nobody knows: who may not call learns nothing.
        let nothing =
            RawCall::status(server.address, "/nothing/Nothing", &[], Some(&MultiplyRequest::default())).await;
        assert_eq!(nothing.code(), Code::Unauthenticated);
    });
}

#[test]
fn a_token_is_for_certain_modes() {
    run(async {
        let server = start().await;
        let quotes = WatchQuotesRequest { count: 1, ..WatchQuotesRequest::default() };
        let mut watching = server_streaming(server.address);
        let refused = watching.watch_quotes(with("Bearer ben's", quotes.clone())).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::PermissionDenied, "MODE_NOT_ALLOWED"));
        watching.watch_quotes(with("Bearer ana's", quotes)).await.unwrap();
        // Before the first of a million messages is read.
        let never = tokio_stream::pending::<RecordReadingsRequest>();
        let refused = client_streaming(server.address).record_readings(with("Bearer ben's", never)).await;
        assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    });
}

#[test]
fn a_unary_call_that_belongs_to_another_mode_wants_a_token_for_that() {
    run(async {
        let address = start().await.address;
        let upload = format!("uploads/{}/blobs/{}/7", uuid::Uuid::new_v4(), blake3::hash(b"content"));
        let query = |token| {
            let request = QueryWriteStatusRequest { resource_name: upload.clone() };
            async move {
                let mut client = ByteStreamClient::new(channel(address));
                within(client.query_write_status(with(token, request))).await.unwrap_err().code()
            }
        };
        // A caller that may upload may ask how far an upload is, and no other.
        assert_eq!(query("Bearer eve's").await, Code::NotFound);
        assert_eq!(query("Bearer ben's").await, Code::PermissionDenied);
        // And may remove what it may make.
        let file = |token| with(token, DeleteFileRequest { name: "none".to_owned(), ..Default::default() });
        unary(address).delete_file(file("Bearer eve's")).await.unwrap();
        assert_eq!(
            unary(address).delete_file(file("Bearer ben's")).await.unwrap_err().code(),
            Code::PermissionDenied
        );
        for token in ["Bearer ben's", "Bearer eve's"] {
            let room = with(token, DeleteRoomRequest { room: "none".to_owned() });
            let document = with(token, DeleteDocumentRequest { document: "none".to_owned() });
            for refused in [
                unary(address).delete_room(room).await.map(drop),
                unary(address).delete_document(document).await.map(drop),
            ] {
                assert_eq!(reason(&refused.unwrap_err()), "MODE_NOT_ALLOWED", "{token}");
            }
        }
    });
}

async fn reflects(server: &Server, authorization: &str) -> Result<(), Status> {
    let mut client = ServerReflectionClient::new(channel(server.address));
    let requests = tokio_stream::once(ServerReflectionRequest::default());
    client.server_reflection_info(with(authorization, requests)).await.map(drop)
}

#[test]
fn health_is_for_everyone_and_reflection_when_the_server_says_so() {
    run(async {
        let closed = start().await;
        HealthClient::new(channel(closed.address)).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(reflects(&closed, "").await.unwrap_err().code(), Code::Unauthenticated);
        reflects(&closed, "Bearer ben's").await.unwrap();
        let config = Settings { tokens: Some(tokens()), open_reflection: true, ..Settings::default() }.into();
        let open = Server::with(config).await;
        reflects(&open, "").await.unwrap();
        assert_eq!(multiply(&open, "").await.unwrap_err().code(), Code::Unauthenticated);
    });
}

#[test]
fn a_long_path_is_cut_in_the_log() {
    run(async {
        let server = binary(&["all"]).serve();
        let path = format!("/{}", "e".repeat(8_000));
        let refused = RawCall::status(server.address, &path, &[], Some(&MultiplyRequest::default())).await;
        assert_eq!(refused.code(), Code::Unimplemented);
        until(async || server.logged(&["eeee"])).await;
        let log = server.log();
        assert!(log.lines().all(|line| line.len() < 1_000), "{log}");
    });
}

#[test]
fn the_log_has_the_caller_and_never_the_token() {
    run(async {
        let mut file = NamedTempFile::new().unwrap();
        // Of `foo`.
        let hash = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";
        writeln!(file, "ana {hash} all").unwrap();
        let command = binary(&["--tokens-file", file.path().to_str().unwrap(), "all"]);
        let server = command.env("RUST_LOG", "trace").serve();
        let mut request = with("Bearer foo", MultiplyRequest { a: 6, b: 7 });
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        request.metadata_mut().insert("traceparent", parent.parse().unwrap());
        unary(server.address).multiply(request).await.unwrap();
        until(async || server.logged(&["unary ended", "caller=ana", &format!("trace_id={trace}")])).await;
        assert!(!server.logged(&["foo"]) && !server.logged(&[hash]));
    });
}

#[test]
fn a_new_file_is_taken_for_new_calls_and_open_streams_go_on() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tokens");
        let write = |text: String| std::fs::write(&file, text).unwrap();
        write(format!("ana {} all\nben {} all\n", hash("ana's"), hash("ben's")));
        let server = binary(&["all", "--tokens-file"]).arg(&file).serve();
        let may = async |token: &str| {
            let answer = multiply_at(server.address, &format!("Bearer {token}")).await;
            answer.map_err(|refused| assert_eq!(reason(&refused), "TOKEN_UNKNOWN")).is_ok()
        };
        assert!(may("ana's").await && may("ben's").await && !may("cat's").await);
        let mut client = server_streaming(server.address);
        let quotes = client.watch_quotes(with("Bearer ben's", WatchQuotesRequest::default())).await;
        let mut quotes = quotes.unwrap().into_inner();

        write(format!("ana {} all\ncat {} all\n", hash("ana's"), hash("cat's")));
        until(async || server.logged(&["INFO", "tokens changed"])).await;
        assert!(may("ana's").await && !may("ben's").await && may("cat's").await);
        // What was made before, and what is made now.
        for _ in 0..100 {
            within(quotes.message()).await.unwrap().unwrap();
        }

        write("ana and nobody else".to_owned());
        until(async || server.logged(&["WARN", "tokens are invalid and ignored", "line 1"])).await;
        assert!(may("ana's").await && !may("ben's").await && may("cat's").await);
        std::fs::remove_file(&file).unwrap();
        until(async || server.logged(&["WARN", "tokens are invalid and ignored", "cannot read"])).await;
        assert!(may("ana's").await && !may("ben's").await && may("cat's").await);

        write(format!("ben {} all\n", hash("ben's")));
        until(async || may("ben's").await).await;
        assert!(!may("ana's").await && !may("cat's").await);
    });
}

#[test]
fn a_token_is_seen_by_nobody_further_in() {
    run(async {
        let server = start().await;
        let mut probe = ProbeServiceClient::new(channel(server.address));
        let answer = probe.unary(with("Bearer ana's", UnaryRequest::default())).await.unwrap().into_inner();
        let metadata = answer.observation.unwrap().metadata;
        let shown: Vec<_> = metadata.into_iter().filter(|entry| entry.key == "authorization").collect();
        assert!(matches!(&shown[..], [one] if one.text.is_empty() && one.binary.is_empty()), "{shown:?}");
        // A mode is a mode, also of services that every server has.
        let refused = probe
            .server_streaming(with("Bearer ben's", ServerStreamingRequest::default()))
            .await
            .unwrap_err();
        assert_eq!(reason(&refused), "MODE_NOT_ALLOWED");
        let path = "/grpc.testing.TestService/FullDuplexCall";
        let headers = [("authorization", "Bearer ben's")];
        let refused = RawCall::status(server.address, path, &headers, None::<&UnaryRequest>).await;
        assert_eq!(reason(&refused), "MODE_NOT_ALLOWED");
    });
}

/// Those who may call are let in, however many calls there are that need no token.
#[test]
fn calls_that_need_no_token_have_a_share_of_the_places() {
    run(async {
        let limits = Limits { calls: 20, ..Limits::default() };
        let server =
            Server::with(Settings { tokens: Some(tokens()), limits, ..Settings::default() }.into()).await;
        let mut health = HealthClient::new(channel(server.address));
        let mut watches = Vec::new();
        for _ in 0..2 {
            watches.push(health.watch(HealthCheckRequest::default()).await.unwrap());
        }
        let refused = health.check(HealthCheckRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), reason(&refused).as_str()), (Code::ResourceExhausted, "LIMIT_REACHED"));
        assert_eq!(multiply(&server, "Bearer ana's").await.unwrap().product, 42);
        drop(watches);
        until(async || health.check(HealthCheckRequest::default()).await.is_ok()).await;
    });
}

//! `upload`, `download` and `files`, with a network and processes that die.

use std::{fs, io::Write as _, path::PathBuf};

use serde_json::{Value, json};
use server::config::{Config, UploadLimits};
use shared_proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest,
    WriteResponse,
    byte_stream_server::{ByteStream, ByteStreamServer},
};
use tempfile::TempDir;
use test_support::{BlockingServer as Server, Program, Proxy, Trouble, eventually};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming, transport::server::TcpIncoming};

use crate::{Called as _, client};

const MIB: usize = 1 << 20;

/// A directory with a file to upload.
struct Place {
    directory: TempDir,
    content: Vec<u8>,
}

impl Place {
    fn new(seed: u64, size: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut content = vec![0; size];
        let mut random = blake3::Hasher::new();
        random.update(&seed.to_le_bytes()).finalize_xof().fill(&mut content);
        fs::write(directory.path().join("a.bin"), &content).unwrap();
        Self { directory, content }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn blob(&self) -> String {
        format!("blobs/{}/{}", blake3::hash(&self.content), self.content.len())
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn upload(&self, url: &str) -> Program {
        let arguments = "-q --output json --reconnect 20s client-streaming upload --chunk 16KiB";
        client(arguments).env("FOURMODES_SERVER", url).arg(self.path("a.bin"))
    }

    fn download(&self, url: &str, name: &str) -> Program {
        let arguments = "-q --output json --reconnect 20s server-streaming download -o";
        client(arguments).env("FOURMODES_SERVER", url).arg(self.path("copy")).arg(name)
    }

    /// What was downloaded is what was uploaded, and nothing is left beside it.
    #[track_caller]
    fn has_the_same(&self) {
        assert_eq!(fs::read(self.path("copy")).unwrap(), self.content);
        assert_eq!(self.names(), ["a.bin", "copy"]);
    }
}

/// A proxy in front of a server.
fn proxied(url: &str) -> (Proxy, String) {
    let proxy = Proxy::start(url.strip_prefix("http://").unwrap().parse().unwrap());
    let url = format!("http://{}", proxy.address);
    (proxy, url)
}

#[test]
fn a_file_goes_there_is_listed_and_comes_back() {
    let server = Server::start();
    let place = Place::new(1, 3 * MIB + 5);
    let value = place.upload(&server.url).run().ok().result()["value"].clone();
    let size = place.content.len();
    assert_eq!((&value["name"], &value["size"]), (&json!("a.bin"), &json!(size)));
    assert_eq!((&value["resource_name"], &value["bytes_sent"]), (&json!(place.blob()), &json!(size)));
    assert_eq!((&value["resumed_from"], &value["already_there"]), (&json!([]), &json!(false)));
    assert_eq!(value["blake3"], json!(blake3::hash(&place.content).to_string()));

    let again = place.upload(&server.url).run().ok().result()["value"].clone();
    assert_eq!((&again["bytes_sent"], &again["already_there"]), (&json!(0), &json!(true)));
    let other_name = place.upload(&server.url).arg("--name").arg("b ö").run().ok().result()["value"].clone();
    assert_eq!((&other_name["name"], &other_name["already_there"]), (&json!("b ö"), &json!(true)));

    let files = server.client("unary files -q --output json").run().ok().result()["value"]["files"].clone();
    let names: Vec<_> = files.as_array().unwrap().iter().map(|file| file["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a.bin", "b ö"]);
    assert_eq!((&files[0]["size_bytes"], &files[0]["resource_name"]), (&json!(size), &json!(place.blob())));

    for name in ["a.bin", "files/b ö", &place.blob()] {
        let value = place.download(&server.url, name).run().ok().result()["value"].clone();
        assert_eq!((&value["bytes_received"], &value["resource_name"]), (&json!(size), &json!(place.blob())));
        place.has_the_same();
        fs::remove_file(place.path("copy")).unwrap();
    }
}

#[test]
fn an_empty_file_is_a_file() {
    let server = Server::start();
    let place = Place::new(1, 0);
    place.upload(&server.url).run().ok();
    place.download(&server.url, "a.bin").run().ok();
    place.has_the_same();
}

#[test]
fn what_is_there_is_not_overwritten_unless_it_is_said() {
    let server = Server::start();
    let place = Place::new(1, 100_000);
    place.upload(&server.url).run().ok();
    fs::write(place.path("copy"), "mine").unwrap();
    place.download(&server.url, "a.bin").run().failed(1, &["OUTPUT", "already exists", "--force"]);
    assert_eq!(fs::read(place.path("copy")).unwrap(), b"mine");
    place.download(&server.url, "a.bin").arg("--force").run().ok();
    place.has_the_same();
    // Without a place it goes here, under its name.
    let here = tempfile::tempdir().unwrap();
    server.client("-q server-streaming download a.bin").current_dir(here.path()).run().ok();
    assert_eq!(fs::read(here.path().join("a.bin")).unwrap(), place.content);
}

/// Of what is no regular file, and of what leads to one.
#[cfg(unix)]
#[test]
fn a_download_replaces_a_file_and_nothing_else() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let server = Server::start();
    let place = Place::new(1, 100_000);
    place.upload(&server.url).run().ok();
    let _socket = UnixListener::bind(place.path("copy")).unwrap();
    place.download(&server.url, "a.bin").arg("--force").run().failed(1, &["OUTPUT", "no regular file"]);
    assert!(!fs::symlink_metadata(place.path("copy")).unwrap().is_file());
    fs::remove_file(place.path("copy")).unwrap();

    fs::write(place.path("real"), "mine").unwrap();
    symlink("real", place.path("copy")).unwrap();
    place.download(&server.url, "a.bin").run().failed(1, &["OUTPUT", "already exists", "--force"]);
    place.download(&server.url, "a.bin").arg("--force").run().ok();
    assert!(place.path("copy").is_symlink());
    assert!(fs::read(place.path("real")).unwrap() == place.content);
}

#[test]
fn a_download_goes_to_stdout_and_all_else_to_stderr() {
    let server = Server::start();
    let (proxy, url) = proxied(&server.url);
    let place = Place::new(1, 3 * MIB);
    place.upload(&server.url).arg("--name=-").run().ok();
    for (options, said) in [("-q", "stdout: 3.00 MiB in"), ("", "HEADERS"), ("--output json", r#""ok":true"#)]
    {
        let download = client(&format!("{options} --server {url} server-streaming download -o - -- -"));
        let stdout = fs::File::create(place.path("copy")).unwrap();
        let running = download.current_dir(place.directory.path()).stdout(stdout).spawn();
        // It goes on behind what is out already.
        eventually(|| fs::metadata(place.path("copy")).unwrap().len() > 0, "nothing is out");
        proxy.cut();
        let ended = { running }.wait();
        assert!(ended.code == Some(0) && ended.stderr.contains(said), "{ended:?}");
        place.has_the_same();
    }
    let download = client(&format!("-q --server {url} server-streaming download -- -"));
    download.current_dir(place.directory.path()).run().ok();
    assert_eq!(fs::read(place.path("-")).unwrap(), place.content);
}

#[test]
fn what_cannot_be_uploaded_or_downloaded_is_said() {
    let server = Server::start();
    let missing = server.client("client-streaming upload /nonexistent/x").run();
    missing.failed(3, &["/nonexistent/x", "No such file"]);
    server.client("client-streaming upload -").run().failed(3, &["checksum are sent first"]);
    server.client("client-streaming upload /").run().failed(3, &["not a file"]);
    for chunk in ["0", "1023", "4097KiB", "5MiB", "1GiB", "-1", "x", "1 kB"] {
        let upload = server.client("client-streaming upload /etc/hostname").arg(format!("--chunk={chunk}"));
        upload.run().failed(2, &["--chunk"]);
    }
    let place = Place::new(1, 100);
    for name in ["a/b", "..", "", "\u{1b}[2J"] {
        let upload = place.upload(&server.url).arg("--name").arg(name).run();
        upload.failed(1, &["INVALID_ARGUMENT", "resource_name"]);
    }
    place.download(&server.url, "nothing").run().failed(1, &["NOT_FOUND", "files/nothing"]);
    for name in ["../x", "a/b", "..", "blobs/../x"] {
        server.client("server-streaming download").arg(name).run().failed(3, &["--output-file"]);
    }
    assert_eq!(place.names(), ["a.bin"]);
}

#[test]
fn a_limit_of_the_server_is_named() {
    let uploads = UploadLimits { size: 1000, ..UploadLimits::default() };
    let server = Server::with(Config { uploads, ..Config::default() });
    let place = Place::new(1, 1001);
    place.upload(&server.url).run().failed(1, &["RESOURCE_EXHAUSTED", "UPLOAD_TOO_LARGE", "1000"]);
}

#[test]
fn an_upload_and_a_download_go_on_by_themselves_wherever_the_connection_is_cut() {
    let uploads = UploadLimits { checkpoint: 64 << 10, ..UploadLimits::default() };
    let server = Server::with(Config { uploads, ..Config::default() });
    let (proxy, url) = proxied(&server.url);
    let mut resumed = 0;
    for (seed, after) in (2..).zip((0..20).map(|n| 1000 + n * 52_345)) {
        let place = Place::new(seed, MIB);
        proxy.set(Trouble::CutAfter(after));
        let value = place.upload(&url).run().ok().result()["value"].clone();
        assert!(proxy.reached(), "{after}");
        resumed += value["resumed_from"].as_array().unwrap().len();
        let sent = value["bytes_sent"].as_u64().unwrap();
        assert!((MIB as u64..=5 * MIB as u64).contains(&sent), "{value}");
        proxy.set(Trouble::None);
        place.download(&url, &place.blob()).run().ok();
        place.has_the_same();
    }
    assert!(resumed >= 10, "resumed {resumed} times");
}

#[test]
fn an_upload_goes_on_when_the_client_was_killed_at_any_border() {
    let uploads = UploadLimits { checkpoint: 64 << 10, ..UploadLimits::default() };
    let server = Server::with(Config { uploads, ..Config::default() });
    let (proxy, url) = proxied(&server.url);
    let mut resumed = 0;
    for (seed, after) in
        (100..).zip([100, 400, 16_000, 17_000, 100_000, 300_000, 500_000, 900_000, MIB as u64 + 100])
    {
        let place = Place::new(seed, MIB);
        proxy.set(Trouble::StallAfter(after));
        let running = place.upload(&url).spawn();
        eventually(|| proxy.reached(), "the upload does not get there");
        drop(running);
        // What the network had taken by then is gone as well.
        proxy.cut();
        proxy.set(Trouble::None);
        place.download(&url, &place.blob()).run().failed(1, &["NOT_FOUND"]);
        let value = place.upload(&url).run().ok().result()["value"].clone();
        resumed += value["resumed_from"].as_array().unwrap().len();
        place.download(&url, &place.blob()).run().ok();
        place.has_the_same();
    }
    assert!(resumed >= 3, "resumed {resumed} times");
}

#[test]
fn a_download_goes_on_where_the_client_was_killed_and_where_the_connection_was_cut() {
    let server = Server::start();
    let (proxy, url) = proxied(&server.url);
    let place = Place::new(1, 8 * MIB);
    place.upload(&server.url).run().ok();
    let part = || place.names().into_iter().find(|name| name.ends_with(".part"));
    let length = || part().map_or(0, |name| fs::metadata(place.path(&name)).unwrap().len());
    // A client that reads sends acknowledgements: it stalls when these do.
    proxy.set(Trouble::StallAfter(400));
    let running = place.download(&url, "a.bin").spawn();
    eventually(|| proxy.reached() && length() > 0, "nothing arrives");
    drop(running);
    assert!(!place.path("copy").exists());
    let there = length();
    assert!(there < 8 * MIB as u64);
    // Other content has the name by now: the next run wants that, from 0.
    let other = Place::new(2, MIB);
    other.upload(&server.url).run().ok();
    other.download(&server.url, "a.bin").run().ok();
    other.has_the_same();

    proxy.set(Trouble::CutAfter(600));
    let value = place.download(&url, &place.blob()).run().ok().result()["value"].clone();
    let resumed: Vec<_> =
        value["resumed_from"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap()).collect();
    assert!(resumed[0] >= there && resumed.is_sorted(), "{resumed:?} after {there}");
    assert_eq!(value["bytes_received"], json!(8 * MIB as u64 - resumed[0]));
    place.has_the_same();
}

#[test]
fn a_part_that_was_damaged_is_thrown_away_and_said() {
    let server = Server::start();
    let place = Place::new(1, 100_000);
    place.upload(&server.url).run().ok();
    let part = format!("copy.{}.part", &blake3::hash(&place.content).to_hex()[..16]);
    fs::write(place.path(&part), "damaged").unwrap();
    place.download(&server.url, "a.bin").run().failed(1, &["DATA_LOSS", "checksum", "try again"]);
    assert_eq!(place.names(), ["a.bin"]);
    fs::write(place.path(&part), vec![0; 100_001]).unwrap();
    place.download(&server.url, "a.bin").run().ok();
    place.has_the_same();
}

#[test]
fn two_downloads_to_one_place_do_not_mix() {
    let server = Server::start();
    let (proxy, url) = proxied(&server.url);
    let place = Place::new(1, 8 * MIB);
    place.upload(&server.url).run().ok();
    proxy.set(Trouble::StallAfter(400));
    let running = place.download(&url, "a.bin").spawn();
    eventually(|| proxy.reached() && place.names().len() == 2, "nothing arrives");
    place.download(&server.url, "a.bin").run().failed(1, &["another run"]);
    drop(running);
    place.download(&server.url, "a.bin").run().ok();
    place.has_the_same();
}

#[test]
fn a_file_that_changes_under_the_upload_is_no_file_there() {
    let server = Server::start();
    let (proxy, url) = proxied(&server.url);
    // More than what is read ahead and on its way.
    let place = Place::new(1, 32 * MIB);
    proxy.set(Trouble::StallAfter(MIB as u64));
    let mut running = place.upload(&url).spawn();
    eventually(|| proxy.reached(), "the upload does not get there");
    let mut changed = place.content.clone();
    changed[32 * MIB - 1] ^= 1;
    fs::write(place.path("a.bin"), &changed).unwrap();
    proxy.set(Trouble::None);
    running
        .wait()
        .failed(1, &["INVALID_ARGUMENT", "CHECKSUM_MISMATCH", "changed during", "repeat the command"]);
    place.download(&url, "a.bin").run().failed(1, &["NOT_FOUND"]);

    proxy.set(Trouble::StallAfter(MIB as u64));
    let mut running = place.upload(&url).spawn();
    eventually(|| proxy.reached(), "the upload does not get there");
    fs::write(place.path("a.bin"), "short").unwrap();
    proxy.set(Trouble::None);
    running.wait().failed(3, &["a.bin", "shorter"]);
    place.download(&url, "a.bin").run().failed(1, &["NOT_FOUND"]);
}

#[test]
fn what_is_appended_under_the_upload_is_not_uploaded() {
    let server = Server::start();
    let (proxy, url) = proxied(&server.url);
    let place = Place::new(1, 32 * MIB + 1);
    proxy.set(Trouble::StallAfter(MIB as u64));
    let mut running = place.upload(&url).spawn();
    eventually(|| proxy.reached(), "the upload does not get there");
    let mut file = fs::File::options().append(true).open(place.path("a.bin")).unwrap();
    file.write_all(b"more").unwrap();
    proxy.set(Trouble::None);
    running.wait().ok();
    place.download(&url, "a.bin").run().ok();
    place.has_the_same();
}

#[test]
fn one_run_outlives_servers_that_are_killed() {
    let data = tempfile::tempdir().unwrap();
    let mut server = crate::server("all --data-dir").arg(data.path()).serve();
    let (proxy, url) = proxied(&server.url);
    let place = Place::new(1, 24 * MIB);
    proxy.set(Trouble::StallAfter(8 * MIB as u64));
    let mut running = place.upload(&url).spawn();
    for _ in 0..3 {
        eventually(|| proxy.reached(), "the upload does not get there");
        server.restart_at("127.0.0.1:0");
        proxy.set_target(server.address);
        proxy.set(Trouble::StallAfter(8 * MIB as u64));
        proxy.cut();
    }
    proxy.set(Trouble::None);
    let ended = running.wait();
    let value = ended.ok().result()["value"].clone();
    assert_eq!(value["size"], json!(24 * MIB));
    place.download(&url, "a.bin").run().ok();
    place.has_the_same();
}

/// A server that knows everything already, once it has seen a few requests.
struct Impatient;

#[tonic::async_trait]
impl ByteStream for Impatient {
    type ReadStream = tokio_stream::Empty<Result<ReadResponse, Status>>;

    async fn read(&self, _: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn write(
        &self,
        request: Request<Streaming<WriteRequest>>,
    ) -> Result<Response<WriteResponse>, Status> {
        let mut requests = request.into_inner();
        let first = requests.message().await?.unwrap();
        requests.message().await?;
        let size = first.resource_name.split('/').nth(4).unwrap();
        Ok(Response::new(WriteResponse { committed_size: size.parse().unwrap() }))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(Status::not_found("nothing yet"))
    }
}

#[test]
fn an_answer_that_comes_early_is_an_answer() {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tonic::transport::Server::builder().add_service(ByteStreamServer::new(Impatient));
    runtime.spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    let place = Place::new(1, 16 * MIB);
    for _ in 0..10 {
        let value = place.upload(&url).run().ok().result()["value"].clone();
        assert_eq!(value["already_there"], json!(true), "{value}");
        assert!(value["bytes_sent"].as_u64().unwrap() < 16 * MIB as u64, "{value}");
    }
}

#[test]
fn a_chunk_is_counted_and_not_shown() {
    let server = Server::start();
    let place = Place::new(1, 20_000);
    let upload = server.client("client-streaming upload --chunk 10KiB").arg(place.path("a.bin"));
    let text = upload.run().ok().stdout;
    assert!(text.contains("data: 10,240 bytes") && text.contains("finish_write: true"), "{text}");
    let lines = place.upload(&server.url).arg("--name=b").run().ok().json();
    assert!(lines.iter().all(|line: &Value| line.to_string().len() < 2000));
    let download =
        server.client("server-streaming download --output json -o").arg(place.path("copy")).arg("a.bin");
    let lines = download.run().ok().json();
    let data: Vec<_> = lines.iter().filter_map(|line| line["value"].get("data")).collect();
    assert_eq!(data, [&json!({ "bytes": 20_000 })]);
}

/// It may wait behind what an attempt before it has left on a slow path.
#[test]
fn the_question_how_far_an_upload_got_has_the_time_of_the_upload() {
    let server = Server::start();
    let place = Place::new(1, 1_000);
    for (name, deadline) in [("one", ""), ("two", "--deadline 1h")] {
        let upload =
            server.client(&format!("{deadline} --output json client-streaming upload --name {name}"));
        let lines = upload.arg(place.path("a.bin")).run().ok().json();
        let is_query =
            |line: &&Value| line["path"].as_str().is_some_and(|path| path.ends_with("/QueryWriteStatus"));
        let query = lines.iter().find(is_query).unwrap();
        assert_eq!(query["metadata"].get("grpc-timeout").is_some(), !deadline.is_empty(), "{query}");
    }
}

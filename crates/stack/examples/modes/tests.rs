use std::{fs, path::Path, time::Duration};

use shared_proto::fourmodes::v1::measure_service_client::MeasureServiceClient;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::*;

#[tokio::test]
async fn each_mode_answers_and_a_stream_that_is_open_ends_with_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let cli = Cli::parse_from(["modes", "--grace", "1h"]);
    let serving = tokio::spawn(serve(listener, cli.stack, shutdown.clone().cancelled_owned()));
    let mut client = MeasureServiceClient::connect(format!("http://{address}")).await.unwrap();

    let payload = tonic::codegen::Bytes::from_static(b"four");
    let request = MeasureUnaryRequest { payload: payload.clone(), ..Default::default() };
    assert_eq!(client.measure_unary(request).await.unwrap().into_inner().payload, payload);

    let request = MeasureServerStreamingRequest { count: 4, ..Default::default() };
    let answers = client.measure_server_streaming(request).await.unwrap().into_inner();
    assert_eq!(answers.map(Result::unwrap).collect::<Vec<_>>().await.len(), 4);

    let request = MeasureClientStreamingRequest { payload: payload.clone(), ..Default::default() };
    let sum = client.measure_client_streaming(tokio_stream::iter(vec![request; 4])).await.unwrap();
    assert_eq!((sum.get_ref().messages, sum.get_ref().bytes), (4, 16));

    // It says nothing, and the head comes all the same.
    let silent = tokio_stream::pending::<MeasureBidiStreamingRequest>();
    let open = client.measure_bidi_streaming(silent).await.unwrap().into_inner();
    let request = MeasureBidiStreamingRequest { payload: payload.clone(), ..Default::default() };
    let answers = client.measure_bidi_streaming(tokio_stream::iter(vec![request; 4])).await.unwrap();
    assert_eq!(answers.into_inner().map(Result::unwrap).collect::<Vec<_>>().await.len(), 4);

    shutdown.cancel();
    let mut open = open;
    assert_eq!(open.message().await.unwrap_err().code(), Code::Unavailable);
    drop(client);
    timeout(Duration::from_secs(10), serving).await.expect("it goes on").unwrap().unwrap();
}

fn has_test(folder: &Path, name: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => has_test(&path, name),
            false => {
                path.extension().is_some_and(|extension| extension == "rs")
                    && fs::read_to_string(path).unwrap().contains(&format!("fn {name}("))
            }
        }
    })
}

#[test]
fn each_default_that_differs_from_tonics_has_the_test_that_the_readme_names() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(crates.join("stack/README.md")).unwrap();
    let (_, table) = readme.split_once("| tonic | here |").expect("there is no table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let tests: Vec<_> =
        rows.map(|row| row.rsplit('`').nth(1).expect("a row names no test").to_owned()).collect();
    assert!(tests.len() > 15, "{tests:?}");
    for test in tests {
        assert!(has_test(crates, &test), "there is no test {test}");
    }
}

use std::process::Output;

use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{MultiplyRequest, WatchQuotesRequest};
use tokio::net::TcpListener;

use crate::support::{
    Process, assert_answers, binary, quote, run, server_streaming, status_of, unary, until, within,
};

async fn output(arguments: &[&str]) -> Output {
    within(binary(arguments).output()).await.unwrap()
}

#[test]
fn the_first_line_is_the_address_and_nothing_else_goes_to_stdout() {
    run(async {
        let mut command = binary(&["all", "--listen", "127.0.0.1:0"]);
        command.env("RUST_LOG", "debug");
        let server = Process::spawn(command).await;
        assert_answers(server.address).await;
        let address = server.address;
        assert_eq!(server.killed().await, format!("listening on http://{address}\n"));
    });
}

#[test]
fn the_address_can_be_chosen_before_and_after_the_mode_and_by_environment() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = &listener.local_addr().unwrap().to_string();
        let by_environment = |arguments: &[&str]| {
            let mut command = binary(arguments);
            command.env("FOURMODES_LISTEN", taken);
            command
        };
        for mut command in [
            binary(&["--listen", taken, "unary"]),
            binary(&["unary", "--listen", taken]),
            by_environment(&["unary"]),
        ] {
            let stderr = String::from_utf8(within(command.output()).await.unwrap().stderr).unwrap();
            assert!(stderr.contains(taken), "{command:?}: {stderr}");
        }
        let server = Process::spawn(by_environment(&["unary", "--listen", "127.0.0.1:0"])).await;
        assert_answers(server.address).await;
    });
}

#[test]
fn the_subcommand_chooses_the_modes() {
    run(async {
        let server = Process::start(&["unary"]).await;
        for mode in Mode::ALL {
            assert_eq!(status_of(mode, server.address).await.served, mode == Mode::Unary, "{mode}");
        }
        let server = Process::start(&["all"]).await;
        for mode in Mode::ALL {
            assert!(status_of(mode, server.address).await.served, "{mode}");
        }
    });
}

#[test]
fn an_address_in_use_is_named_with_the_way_out() {
    run(async {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let output = output(&["all", "--listen", &address]).await;
        assert_eq!(output.status.code(), Some(1));
        let stderr = String::from_utf8(output.stderr).unwrap();
        for text in [address.as_str(), "--listen", "in use"] {
            assert!(stderr.contains(text), "{stderr}");
        }
        assert!(output.stdout.is_empty());
    });
}

#[test]
fn wrong_usage_ends_with_2() {
    run(async {
        for (arguments, text) in [
            (&[] as &[&str], "Usage: server"),
            (&["unary", "--listen", "nowhere"], "--listen"),
            (&["unary", "--grace", "soon"], "--grace"),
            (&["duplex"], "duplex"),
        ] {
            let output = output(arguments).await;
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{arguments:?}: {stderr}");
            assert!(stderr.contains(text), "{arguments:?}: {stderr}");
            assert!(output.stdout.is_empty(), "{arguments:?}");
        }
    });
}

#[test]
fn the_log_tells_each_call_and_at_debug_level_each_message() {
    run(async {
        for (level, messages) in [("info", false), ("debug", true)] {
            let mut command = binary(&["all", "--listen", "127.0.0.1:0"]);
            command.env("RUST_LOG", level);
            let server = Process::spawn(command).await;
            let mut client = server_streaming(server.address);
            let request = WatchQuotesRequest { count: 3, ..Default::default() };
            let mut quotes = client.watch_quotes(request).await.unwrap().into_inner();
            while quotes.message().await.unwrap().is_some() {}
            unary(server.address).multiply(MultiplyRequest { a: i64::MAX, b: 2 }).await.unwrap_err();

            let quotes = ["server-streaming ended", "WatchQuotes", "code=OK", "received=1", "sent=3"];
            until(async || server.logged(&quotes)).await;
            let overflow = ["unary ended", "Multiply", "code=OUT_OF_RANGE", "received=1", "sent=0"];
            until(async || server.logged(&overflow)).await;
            assert!(server.logged(&["server-streaming began", "WatchQuotes"]));
            for message in ["message 1 received", "message 1 sent", "message 2 sent", "message 3 sent"] {
                assert_eq!(server.logged(&["DEBUG", "WatchQuotes", message]), messages, "{level}: {message}");
            }
        }
    });
}

#[test]
fn a_call_whose_client_goes_away_is_logged_as_cancelled() {
    run(async {
        let server = Process::start(&["all"]).await;
        let mut client = server_streaming(server.address);
        let mut quotes = client.watch_quotes(WatchQuotesRequest::default()).await.unwrap().into_inner();
        quotes.message().await.unwrap().unwrap();
        drop(quotes);
        until(async || server.logged(&["server-streaming ended", "WatchQuotes", "code=CANCELLED"])).await;
    });
}

#[test]
fn the_seed_of_the_quotes_can_be_chosen() {
    run(async {
        let mut prices = Vec::new();
        for seed in ["7", "7", "8"] {
            let server = Process::start(&["server-streaming", "--quotes-seed", seed]).await;
            let request = WatchQuotesRequest { count: 20, ..Default::default() };
            let mut quotes =
                server_streaming(server.address).watch_quotes(request).await.unwrap().into_inner();
            let mut walk = Vec::new();
            while let Some(response) = quotes.message().await.unwrap() {
                walk.push(quote(response).price_cents);
            }
            prices.push(walk);
        }
        assert_eq!(prices[0], prices[1]);
        assert_ne!(prices[0], prices[2]);
    });
}

#[test]
fn the_version_is_the_one_that_status_tells() {
    run(async {
        let output = output(&["--version"]).await;
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            concat!("server ", env!("CARGO_PKG_VERSION"), "\n")
        );
    });
}

#[test]
fn help_says_what_can_be_said() {
    run(async {
        let output = output(&["--help"]).await;
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(help);
    });
}

#[test]
fn the_help_of_certs_has_no_options_of_serving() {
    run(async {
        let output = output(&["certs", "--help"]).await;
        assert_eq!(output.status.code(), Some(0));
        let help = String::from_utf8(output.stdout).unwrap();
        let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(help);
    });
}

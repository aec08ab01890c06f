use grpc_wire::Mode;
use shared_proto::fourmodes::v1::{MultiplyRequest, WatchQuotesRequest};
use test_support::{assert_answers, quote, run, server_streaming, status_of, unary, until};
use tokio::{net::TcpListener, task::JoinSet};

use crate::server::binary;

#[test]
fn the_first_line_is_the_address_and_nothing_else_goes_to_stdout() {
    run(async {
        let server = binary(&["all"]).env("RUST_LOG", "debug").serve();
        assert_answers(server.address).await;
        let address = server.address;
        assert_eq!(server.killed(), format!("listening on http://{address}\n"));
    });
}

#[test]
fn the_address_can_be_chosen_before_and_after_the_mode_and_by_environment() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let taken = &listener.local_addr().unwrap().to_string();
        let by_environment = |arguments: &[&str]| binary(arguments).env("FOURMODES_LISTEN", taken);
        for command in [
            binary(&["--listen", taken, "unary"]),
            binary(&["unary", "--listen", taken]),
            by_environment(&["unary"]),
        ] {
            command.run().failed(1, &[taken]);
        }
        let server = by_environment(&["unary", "--listen", "127.0.0.1:0"]).serve();
        assert_answers(server.address).await;
    });
}

#[test]
fn the_subcommand_chooses_the_modes() {
    run(async {
        let server = binary(&["unary"]).serve();
        for mode in Mode::ALL {
            assert_eq!(status_of(mode, server.address).await.served, mode == Mode::Unary, "{mode}");
        }
        let server = binary(&["all"]).serve();
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
        let ended = binary(&["all", "--listen", &address]).run().failed(1, &[&address, "--listen", "in use"]);
        assert!(ended.stdout.is_empty());
    });
}

#[test]
fn wrong_usage_ends_with_2() {
    run(async {
        for (arguments, text) in [
            (&[] as &[&str], "Usage: fourmodes-server"),
            (&["unary", "--listen", "nowhere"], "--listen"),
            (&["unary", "--grace", "soon"], "--grace"),
            (&["unary", "--max-headers", "65537"], "64KiB is the most"),
            (&["all", "--advertise", "10.0.0.1:50051"], "write it as http://host:port"),
            (&["all", "--advertise", "ftp://host:50051"], "write it as http://host:port"),
            (&["all", "--advertise", "http://host:50051/path"], "write it as http://host:port"),
            (&["all", "--advertise", "http://host:0"], "no client can call this address"),
            (&["all", "--advertise", "http://host:70000"], "no client can call this address"),
            (&["all", "--advertise", "http://[::]:50051"], "no client can call this address"),
            (&["duplex"], "duplex"),
        ] {
            let ended = binary(arguments).run().failed(2, &[text]);
            assert!(ended.stdout.is_empty(), "{arguments:?}");
        }
    });
}

#[test]
fn the_log_tells_each_call_and_at_debug_level_each_message() {
    run(async {
        for (level, messages) in [("info", false), ("debug", true)] {
            let server = binary(&["all"]).env("RUST_LOG", level).serve();
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
fn of_many_calls_a_second_a_hundred_have_lines() {
    run(async {
        let server = binary(&["all"]).env("RUST_LOG", "info").serve();
        let client = unary(server.address);
        let mut calls = 0;
        for words in ["over 100 calls in a second", "more calls in that second, without lines"] {
            until(async || {
                let multiply = |a| {
                    let mut client = client.clone();
                    async move { client.multiply(MultiplyRequest { a, b: 2 }).await.unwrap() }
                };
                (0..64).map(multiply).collect::<JoinSet<_>>().join_all().await;
                calls += 64;
                server.logged(&[words, "method=/fourmodes.v1.UnaryService/Multiply"])
            })
            .await;
        }
        let lines = server.log().matches("unary ended").count();
        assert!((100..calls).contains(&lines), "{lines} lines for {calls} calls");
    });
}

#[test]
fn a_call_whose_client_goes_away_is_logged_as_cancelled() {
    run(async {
        let server = binary(&["all"]).serve();
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
            let server = binary(&["server-streaming", "--quotes-seed", seed]).serve();
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

fn help(arguments: &[&str]) -> String {
    let help = binary(arguments).run().ok().stdout;
    help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

#[test]
fn help_says_what_can_be_said() {
    insta::assert_snapshot!(help(&["--help"]));
}

#[test]
fn the_help_of_certs_has_no_options_of_serving() {
    insta::assert_snapshot!(help(&["certs", "--help"]));
}

use clap::Command;
use client::Cli;
use grpc_wire::Mode;
use regex::Regex;
use test_support::{BlockingServer as Server, Program};

use crate::{Called as _, client, server};

fn help(arguments: &str) -> String {
    let ended = client(arguments).env("COLUMNS", "100").run().ok();
    // A default that a test's own environment changed would not be one.
    assert!(!ended.stdout.contains("[env: FOURMODES_SERVER=http"), "{}", ended.stdout);
    ended.stdout
}

#[test]
fn help_of_the_client() {
    insta::assert_snapshot!(help("--help"));
}

#[test]
fn help_of_what_is_no_scenario() {
    for command in ["check", "measure", "net-rpc multiply"] {
        insta::assert_snapshot!(
            format!("help_of_{}", command.replace(' ', "_")),
            help(&format!("{command} --help"))
        );
    }
}

/// `UPDATE_DOCS=1` writes it there.
#[test]
fn the_documentation_has_the_help_of_each_scenario() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/scenarios.md");
    let documented = std::fs::read_to_string(path).unwrap();
    let mut text = documented.clone();
    let whole = Cli::readable();
    for mode in Mode::ALL {
        let mut commands = subcommands(mode.name(), whole.find_subcommand(mode.name()).unwrap());
        while let Some((name, command)) = commands.pop() {
            let block = format!("```help {name}\n");
            let begin = text.find(&block).unwrap_or_else(|| panic!("docs/scenarios.md has no {block}"));
            let begin = begin + block.len();
            let end = begin + text[begin..].find("```").unwrap();
            let help = client(&format!("{name} --help")).env("COLUMNS", "80").run().ok().stdout;
            let help: String = help.lines().map(|line| format!("{}\n", line.trim_end())).collect();
            text.replace_range(begin..end, &help);
            commands.extend(subcommands(&name, command));
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(path, text).unwrap();
    }
    for (documented, shown) in documented.lines().zip(text.lines()) {
        assert_eq!(documented, shown, "docs/scenarios.md is not as --help; UPDATE_DOCS=1 writes it anew");
    }
    assert_eq!(documented.len(), text.len());
}

/// By their whole names.
fn subcommands<'a>(name: &str, command: &'a Command) -> Vec<(String, &'a Command)> {
    let below = command.get_subcommands().filter(|below| below.get_name() != "help");
    below.map(|below| (format!("{name} {}", below.get_name()), below)).collect()
}

#[test]
fn the_help_of_a_scenario_fits_on_a_screen() {
    let help = client("unary multiply --help").env("COLUMNS", "80").run().ok().stdout;
    assert!(help.lines().count() <= 24 && help.contains("fourmodes --help"), "{help}");
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let server = Server::start();
    let mut multiply = server.client("unary multiply 6 7 -q");
    for name in
        ["CA", "CERT", "KEY", "TOKEN", "TOKEN_FILE", "OUTPUT", "KEEPALIVE_INTERVAL", "KEEPALIVE_TIMEOUT"]
    {
        multiply = multiply.env(&format!("FOURMODES_{name}"), "");
    }
    assert_eq!(multiply.run().ok().stdout, "6 × 7 = 42\n");
}

#[test]
fn tls_files_in_the_environment_are_for_servers_with_tls() {
    let server = Server::start();
    let multiply = || server.client("unary multiply 6 7 -q").env("FOURMODES_CA", "/nowhere/ca.pem");
    assert_eq!(multiply().env("FOURMODES_CERT", "cert.pem").run().ok().stdout, "6 × 7 = 42\n");
    multiply().args("--cert cert.pem").run().failed(2, &["--cert", "https://"]);
}

#[test]
fn options_of_a_scenario_do_not_come_from_the_environment() {
    let server = Server::start();
    let quotes = server.client("server-streaming quotes --interval 0s -q --output json");
    let quotes = quotes.env("FOURMODES_COUNT", "3").env("FOURMODES_DELIVERY", "nonsense");
    assert_eq!(quotes.run().ok().result()["value"]["count"], 10);
}

#[test]
fn both_programs_describe_themselves_to_shells_and_to_man() {
    for (program, option, command) in [
        (client as fn(&str) -> Program, "--keepalive-interval", "fourmodes-unary-multiply"),
        (server, "--max-unary-message", "fourmodes-server-certs"),
    ] {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = program(&format!("completions {shell}")).run().ok().stdout;
            assert!(script.contains(option.trim_start_matches("--")), "{shell}:\n{script}");
        }
        program("completions tcsh").run().failed(2, &["tcsh"]);

        let page = program("man").run().ok().stdout;
        let plain = page.replace(r"\-", "-");
        assert!(page.contains(".TH fourmodes") && plain.contains(option), "{page}");
        assert!(plain.contains("FOURMODES_KEEPALIVE_INTERVAL"), "{page}");
        assert!(!plain.contains("-help(1)"), "{page}");

        let dir = tempfile::tempdir().unwrap();
        let pages = dir.path().join("share/man1");
        assert_eq!(program("man --dir").arg(&pages).run().ok().stdout, "");
        let page = std::fs::read_to_string(pages.join(format!("{command}.1"))).unwrap();
        // Which the page of the whole has.
        assert!(!page.replace(r"\-", "-").contains(option), "{page}");

        let file = dir.path().join("file");
        std::fs::write(&file, "").unwrap();
        program("man --dir").arg(&file).run().failed(1, &["file", "written"]);
    }
}

#[cfg(unix)]
#[test]
fn a_closed_stdout_is_an_error() {
    for description in ["completions bash", "man"] {
        for (program, code) in [(client as fn(&str) -> Program, 141), (server, 1)] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            let ended = program(description).stdout(writer).run();
            assert_eq!(ended.code, Some(code), "{description}: {}", ended.stderr);
            assert!(!ended.stderr.contains("panic"), "{description}: {}", ended.stderr);
        }
    }
}

#[test]
fn the_version_is_the_package_s_and_the_commit_where_there_is_one() {
    for (program, name) in [(client as fn(&str) -> Program, "fourmodes"), (server, "fourmodes-server")] {
        let version = program("--version").run().ok().stdout;
        let shape = format!(r"^{name} {}( \([0-9a-f]{{7,}}\))?\n$", env!("CARGO_PKG_VERSION"));
        assert!(Regex::new(&shape).unwrap().is_match(&version), "{version}");
    }
}

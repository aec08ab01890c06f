use crate::client;

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
fn help_of_each_mode() {
    for mode in ["unary", "server-streaming", "client-streaming", "bidi-streaming"] {
        insta::assert_snapshot!(format!("help_of_{mode}"), help(&format!("{mode} --help")));
    }
}

#[test]
fn help_of_each_scenario() {
    for scenario in [
        "unary multiply",
        "unary submit",
        "unary submit primes",
        "server-streaming quotes",
        "server-streaming log",
        "server-streaming system",
        "server-streaming download",
        "client-streaming readings",
        "client-streaming upload",
        "bidi-streaming chat",
        "check",
        "measure",
    ] {
        let name = scenario.replace(' ', "_");
        insta::assert_snapshot!(format!("help_of_{name}"), help(&format!("{scenario} --help")));
    }
}

#[test]
fn completions_for_every_shell_know_the_modes() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = client(&format!("completions {shell}")).run().ok().stdout;
        assert!(script.contains("server-streaming") && script.contains("quotes"), "{shell}:\n{script}");
    }
    client("completions tcsh").run().failed(2, &["tcsh"]);
}

#[test]
fn the_version_is_the_package_s() {
    assert_eq!(client("--version").run().ok().stdout, concat!("fourmodes ", env!("CARGO_PKG_VERSION"), "\n"));
}

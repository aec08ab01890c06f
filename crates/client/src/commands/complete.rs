//! Completes the services and methods of a running server in a shell.
//!
//! The scripts of `fourmodes completions` call this first, and fall back to their usual
//! completion if it returns nothing. Only these scripts use it, so `--help` does not
//! mention it.

use std::{env, process::ExitCode, time::Duration};

use clap::{CommandFactory as _, FromArgMatches as _};
use shared_process::Shell;

use super::call::service::Service;
use crate::{
    cli::{Cli, Command},
    options::Options,
    show,
};

/// How long a user who has pressed Tab waits at most.
const PATIENCE: Duration = Duration::from_secs(1);

/// The command line up to the cursor, without the name of the program, if a completion
/// script asks for the completions of its last word.
pub(crate) fn asked() -> Option<Vec<String>> {
    let mut arguments = env::args_os().skip(1);
    (arguments.next()? == "__complete")
        .then(|| arguments.map(|it| it.to_string_lossy().into_owned()).collect())
}

/// Prints the completions, one per line.
pub(crate) async fn answer(words: Vec<String>) -> ExitCode {
    let names = tokio::time::timeout(PATIENCE, names(&words)).await.ok().flatten();
    let lines: String = names.unwrap_or_default().iter().map(|name| format!("{name}\n")).collect();
    match show::hand_on(lines.as_bytes()) {
        Ok(()) if !lines.is_empty() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

async fn names(words: &[String]) -> Option<Vec<String>> {
    let typed = words.last()?;
    let words = std::iter::once("fourmodes").chain(words.iter().map(String::as_str));
    // A line that is still being typed is rarely valid.
    let matches = Cli::command().ignore_errors(true).try_get_matches_from(words).ok()?;
    let Cli { options, command } = Cli::from_arg_matches(&matches).ok()?;
    let (target, service) = match command {
        Command::Call(call) if call.symbol.as_ref() == Some(typed) => (call.target, call.service),
        Command::Measure(measure) if measure.call.as_ref() == Some(typed) => (measure.url?, measure.service),
        _ => return None,
    };
    let mut names = found(&service, &target, options, typed).await?;
    // A name is completed only if it is one printable word: it comes from a peer.
    names.retain(|name| name.starts_with(typed) && name.chars().all(|c| c.is_ascii_graphic()));
    names.sort();
    Some(names)
}

/// Services with a slash appended, or the methods of one service.
async fn found(service: &Service, target: &str, options: Options, typed: &str) -> Option<Vec<String>> {
    let files = service.schema_of_files().ok()?;
    let mut reflection = None;
    if files.is_none() {
        let config = service.config(target, options).ok()?;
        reflection = Some(service.reflection(config.connector.connect(&config.server()).await.ok()?));
    }
    if let Some((name, _)) = typed.split_once('/') {
        let schema = match files {
            Some(schema) => schema,
            None => reflection?.schema(name).await.ok()?,
        };
        let service = schema.service(name).ok()?;
        return Some(service.methods().map(|method| format!("{name}/{}", method.name())).collect());
    }
    let services: Vec<_> = match files {
        Some(schema) => schema.services().map(|service| service.full_name().to_owned()).collect(),
        None => reflection?.services().await.ok()?,
    };
    Some(services.into_iter().map(|name| format!("{name}/")).collect())
}

/// Extends the completion script of a shell, if supported, so that it asks this program
/// first.
pub(crate) fn asking(shell: Shell, script: String) -> String {
    let (function, ask) = match shell {
        Shell::Bash => (BASH, "    _fourmodes_names \"$1\" && return\n"),
        Shell::Zsh => (ZSH, "    _fourmodes_names && return\n"),
        Shell::Fish => return script + FISH,
        _ => return script,
    };
    const HEAD: &str = "_fourmodes() {\n";
    script.replacen(HEAD, &format!("{function}{HEAD}{ask}"), 1)
}

// Bash splits words at colons, and the address of a server contains one. So xargs splits
// the line into words and handles the quotes.
const BASH: &str = r#"_fourmodes_names() {
    local line=${COMP_LINE:0:COMP_POINT} words
    mapfile -t words < <(xargs printf '%s\n' <<<"$line" 2>/dev/null)
    [[ $line == *[[:space:]] ]] && words+=("")
    mapfile -t COMPREPLY < <("$1" __complete "${words[@]:1}" 2>/dev/null)
    [[ ${COMPREPLY-} == */ ]] && compopt -o nospace
    ((${#COMPREPLY[@]}))
}

"#;

const ZSH: &str = r#"_fourmodes_names() {
    local -a names
    names=(${(f)"$($words[1] __complete "${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)"})
    (( $#names )) || return 1
    compadd -S '' -- ${(M)names:#*/}
    compadd -- ${names:#*/}
    return 0
}

"#;

const FISH: &str = r#"
complete -c fourmodes -n "__fish_fourmodes_using_subcommand call" -f -a "(fourmodes __complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)"
"#;

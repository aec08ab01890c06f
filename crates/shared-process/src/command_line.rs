//! The command lines of both programs.

use std::env;

use clap::{Arg, Command, Id};

/// A command line for people.
///
/// Its global options may stand anywhere, and only the help of the whole has
/// them: that of a command is about the command, and ends with `hint`, which
/// says where the others are. An empty variable counts as unset: in a shell that
/// is how a single call goes without one.
#[must_use]
pub fn readable(whole: Command, hint: &'static str) -> Command {
    let mut whole = without_empty_variables(whole);
    whole.build();
    let global = whole.get_arguments().filter(|option| option.is_global_set());
    let global: Vec<_> = global.map(|option| option.get_id().clone()).collect();
    whole.mut_subcommands(|command| about_itself(command, &global, hint))
}

fn about_itself(command: Command, global: &[Id], hint: &'static str) -> Command {
    let hidden = |option: Arg| {
        let is_global = option.is_global_set() && global.contains(option.get_id());
        option.hide(is_global)
    };
    command.mut_args(hidden).mut_subcommands(|below| about_itself(below, global, hint)).after_help(hint)
}

fn without_empty_variables(command: Command) -> Command {
    let without = |option: Arg| match option.get_env().and_then(env::var_os) {
        Some(value) if value.is_empty() => option.env(None::<&str>),
        _ => option,
    };
    command.mut_args(without).mut_subcommands(without_empty_variables)
}

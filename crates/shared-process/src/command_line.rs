//! The command lines of both programs.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use clap::{Arg, Command, Id, Subcommand};
pub use clap_complete::Shell;
use clap_mangen::Man;

/// The commands with which a program describes itself to shells and to `man`.
#[derive(Debug, Subcommand)]
pub enum Describe {
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page of the program
    Man {
        /// Write a page for each command to this directory
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

impl Describe {
    /// Describes `whole`, a command line that is still to become [`readable`] with
    /// `hint`. `finish` has the last word on a script.
    ///
    /// # Errors
    ///
    /// When stdout or a file in the directory cannot be written.
    pub fn write(
        &self,
        mut whole: Command,
        hint: &'static str,
        finish: impl FnOnce(Shell, String) -> String,
    ) -> io::Result<()> {
        let mut text = Vec::new();
        match self {
            Self::Completions { shell } => {
                let program = whole.get_name().to_owned();
                clap_complete::generate(*shell, &mut whole, program, &mut text);
                text = finish(*shell, String::from_utf8_lossy(&text).into_owned()).into_bytes();
            }
            Self::Man { dir } => {
                // `man` needs no page about `help`.
                let whole = readable(whole.disable_help_subcommand(true), hint);
                if let Some(dir) = dir {
                    return pages(whole, dir).map_err(|error| {
                        io::Error::new(error.kind(), format!("{}: {error}", dir.display()))
                    });
                }
                Man::new(whole).render(&mut text)?;
            }
        }
        io::stdout().write_all(&text)
    }
}

fn pages(whole: Command, dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    clap_mangen::generate_to(whole, dir)
}

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

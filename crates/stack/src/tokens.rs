//! Authorizes callers by a file of tokens, which contains only hashes.
//!
//! A token is never logged or printed, and comparing it takes the same time whatever it
//! is.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use grpc_wire::Mode;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use crate::files;

/// A file of tokens, which is reloaded when it changes.
#[derive(Clone)]
pub struct Tokens {
    file: PathBuf,
    contents: Vec<u8>,
    callers: watch::Sender<Callers>,
}

/// The callers that a server knows.
#[derive(Default)]
pub(crate) struct Callers(Vec<Caller>);

#[derive(Clone)]
struct Caller {
    name: String,
    /// The SHA-256 of the token. That is enough, because a token is random and long,
    /// unlike a password.
    hash: [u8; 32],
    modes: Vec<Mode>,
}

impl Tokens {
    /// Reads a file with one caller per line: a name, the SHA-256 of its token in hex,
    /// and the modes that it may call, `all` or separated by commas. Empty lines and
    /// lines that begin with `#` are ignored.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or a line is invalid.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let contents = files::read(path)?;
        let (callers, _) = watch::channel(Callers::in_file(path, &contents)?);
        Ok(Self { file: path.to_owned(), contents, callers })
    }

    pub(crate) fn callers(&self) -> watch::Receiver<Callers> {
        self.callers.subscribe()
    }

    /// Reloads the file when it changes, without end. Calls that have begun continue,
    /// even if their caller has lost its permission.
    pub(crate) async fn follow_file(self) {
        let Self { file, contents, callers } = self;
        let read = {
            let file = file.clone();
            move || files::read(&file)
        };
        let take = |contents: &Vec<u8>| {
            callers.send_replace(Callers::in_file(&file, contents)?);
            Ok(())
        };
        files::follow("tokens", contents, read, take).await;
    }
}

impl Callers {
    fn in_file(path: &Path, contents: &[u8]) -> anyhow::Result<Self> {
        let parsed = str::from_utf8(contents).context("it is no text").and_then(Self::parse);
        parsed.with_context(|| format!("{} is no file of tokens", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines =
            text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty() && !line.starts_with('#'));
        let callers: Vec<_> = lines
            .map(|(line, number)| caller(line).with_context(|| format!("line {number}")))
            .collect::<Result<_, _>>()?;
        let mut names: Vec<_> = callers.iter().map(|caller| caller.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            bail!("{} is in it twice", twice[0]);
        }
        Ok(Self(callers))
    }

    /// The name and modes of the caller with this token. The time does not depend on
    /// how much of the token is right.
    pub(crate) fn find(&self, token: &[u8]) -> Option<(&str, &[Mode])> {
        let hash = Sha256::digest(token);
        let found = self.0.iter().fold(None, |found, caller| match caller.hash.ct_eq(&hash).into() {
            true => Some(caller),
            false => found,
        });
        found.map(|Caller { name, modes, .. }| (name.as_str(), modes.as_slice()))
    }
}

/// Prints only the names, not the hashes.
impl fmt::Debug for Callers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|caller| &caller.name)).finish()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.callers.borrow(), f)
    }
}

fn caller(line: &str) -> anyhow::Result<Caller> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let [name, hash, modes] = fields[..] else {
        bail!("a line has a name, the SHA-256 of a token and modes, such as `ana 2c26… unary,bidi-streaming`")
    };
    let modes = match modes {
        "all" => Mode::ALL.to_vec(),
        modes => modes.split(',').map(mode).collect::<Result<_, _>>()?,
    };
    Ok(Caller { name: name.to_owned(), hash: from_hex(hash).context("a SHA-256 has 64 hex digits")?, modes })
}

fn mode(name: &str) -> anyhow::Result<Mode> {
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name);
    mode.with_context(|| {
        format!("{name:?} is not a mode; the modes are {}", Mode::ALL.map(Mode::name).join(", "))
    })
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<_>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let bytes: Vec<_> =
        digits?.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8)).collect();
    bytes.try_into().ok().filter(|_| text.len() == 64)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const FOO: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

    #[test]
    fn a_token_is_found_by_its_hash() {
        let tokens = Callers::parse(&format!("# who\n\nana {FOO} unary,bidi-streaming\n")).unwrap();
        assert_eq!(tokens.find(b"foo"), Some(("ana", [Mode::Unary, Mode::BidiStreaming].as_slice())));
        for wrong in ["", "fo", "foo ", FOO] {
            assert_eq!(tokens.find(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_hash_is_shown_to_nobody() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        writeln!(file, "ana {FOO} all").unwrap();
        let tokens = Tokens::read(file.path()).unwrap();
        assert_eq!(format!("{tokens:?}"), r#"["ana"]"#);
    }

    #[test]
    fn lines_that_are_none_are_refused_with_their_number() {
        for wrong in [
            "ana".to_owned(),
            format!("ana {FOO}"),
            format!("ana {FOO}0 all"),
            format!("ana {FOO} all more"),
            format!("ana {FOO} telepathy"),
            format!("ana {FOO} unary,"),
            format!("ana g{} all", &FOO[1..]),
        ] {
            let error = Callers::parse(&format!("\n{wrong}")).unwrap_err();
            assert_eq!(error.to_string(), "line 2", "{wrong}");
        }
        assert!(Callers::parse(&format!("ana {FOO} all\nana {FOO} all")).is_err());
        assert!(Callers::parse("").unwrap().find(b"foo").is_none());
    }
}

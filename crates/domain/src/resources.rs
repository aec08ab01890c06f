//! The names of content and of uploads. What a peer wrote is taken apart and
//! printed anew before anything is done with it: a name is never a path.

use std::{fmt, str::FromStr};

use blake3::Hash;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::names::{self, BadName};

/// Content, by its checksum and size: `blobs/BLAKE3/SIZE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Blob {
    hash: [u8; 32],
    /// In bytes.
    pub size: u64,
}

/// An upload: `uploads/UUID/blobs/BLAKE3/SIZE`, with the name that the content
/// is to have, if any, as one more part.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Upload {
    /// The client chose it.
    pub id: Uuid,
    /// What it is to become.
    pub blob: Blob,
    /// For which the content is to stand.
    pub name: Option<String>,
}

/// What can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Certain content.
    Blob(Blob),
    /// `files/NAME`: the newest content that has the name.
    File(String),
}

/// Reads after the name of the field: "resource_name must be …".
#[allow(missing_docs, reason = "the messages say it")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadResource {
    #[error("must be blobs/BLAKE3/SIZE with 64 hex digits and a decimal number")]
    NoBlob,
    #[error("must be uploads/UUID/blobs/BLAKE3/SIZE, optionally followed by /NAME")]
    NoUpload,
    #[error("must be blobs/BLAKE3/SIZE or files/NAME")]
    NoSource,
    #[error("has a NAME that {0}")]
    Name(BadName),
    #[error("has a NAME that is {0:?}, or has one of the characters / and \\ in it")]
    Path(String),
}

impl Blob {
    /// Of content with this checksum and size in bytes.
    pub fn new(hash: Hash, size: u64) -> Self {
        Self { hash: hash.into(), size }
    }

    /// The checksum, BLAKE3.
    pub fn hash(&self) -> Hash {
        self.hash.into()
    }

    fn of(hash: &str, size: &str) -> Option<Self> {
        let is_number = size.bytes().all(|digit| digit.is_ascii_digit());
        let size = size.parse().ok().filter(|_| is_number)?;
        Some(Self::new(Hash::from_hex(hash).ok()?, size))
    }
}

impl FromStr for Blob {
    type Err = BadResource;

    fn from_str(text: &str) -> Result<Self, BadResource> {
        let mut parts = text.split('/');
        match [(); 4].map(|()| parts.next()) {
            [Some("blobs"), Some(hash), Some(size), None] => Self::of(hash, size),
            _ => None,
        }
        .ok_or(BadResource::NoBlob)
    }
}

impl FromStr for Upload {
    type Err = BadResource;

    fn from_str(text: &str) -> Result<Self, BadResource> {
        let mut parts = text.splitn(6, '/');
        let [uploads, id, blobs, hash, size, name] = [(); 6].map(|()| parts.next());
        if (uploads, blobs) != (Some("uploads"), Some("blobs")) {
            return Err(BadResource::NoUpload);
        }
        let id = id.and_then(|id| Uuid::try_parse(id).ok());
        let blob = hash.zip(size).and_then(|(hash, size)| Blob::of(hash, size));
        let (id, blob) = id.zip(blob).ok_or(BadResource::NoUpload)?;
        Ok(Self { id, blob, name: name.map(checked).transpose()? })
    }
}

impl FromStr for Source {
    type Err = BadResource;

    fn from_str(text: &str) -> Result<Self, BadResource> {
        match text.split_once('/') {
            Some(("blobs", _)) => text.parse().map(Self::Blob),
            Some(("files", name)) => checked(name).map(Self::File),
            _ => Err(BadResource::NoSource),
        }
    }
}

fn checked(name: &str) -> Result<String, BadResource> {
    names::check(name).map_err(BadResource::Name)?;
    if name.contains(['/', '\\']) || matches!(name, "." | "..") {
        return Err(BadResource::Path(name.to_owned()));
    }
    Ok(name.to_owned())
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blobs/{}/{}", self.hash(), self.size)
    }
}

impl fmt::Display for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uploads/{}/{}", self.id, self.blob)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(blob) => blob.fmt(f),
            Self::File(name) => write!(f, "files/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
    const ID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

    #[test]
    fn names_are_printed_as_they_were_read() {
        for text in [format!("blobs/{HASH}/0"), "files/report.pdf".into(), "files/安娜 .x".into()] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        for name in ["", "/a", "/..a", "/ö ö", "/%2F"] {
            let text = format!("uploads/{ID}/blobs/{HASH}/7{name}");
            let upload: Upload = text.parse().unwrap();
            assert_eq!(upload.to_string(), text);
            assert_eq!(upload.name.as_deref(), name.strip_prefix('/'));
            assert_eq!(upload.blob.size, 7);
        }
        // Other ways to write the same are the same.
        let (id, hash) = (ID.replace('-', "").to_uppercase(), HASH.to_uppercase());
        let upload: Upload = format!("uploads/{id}/blobs/{hash}/007").parse().unwrap();
        assert_eq!(upload.to_string(), format!("uploads/{ID}/blobs/{HASH}/7"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in
            ["", "blobs", "blobs/", "blob/x/1", "http://x/y", "/blobs/x/1", "uploads/x", "..", "/etc/passwd"]
        {
            assert!(text.parse::<Source>().is_err() && text.parse::<Upload>().is_err(), "{text}");
        }
        for size in ["", "-1", "+1", " 1", "1e3", "18446744073709551616", "1/", "1/x"] {
            assert_eq!(format!("blobs/{HASH}/{size}").parse::<Source>(), Err(BadResource::NoBlob), "{size}");
        }
        for hash in [&HASH[1..], &format!("{HASH}0"), &HASH.replace('a', "g"), "../../etc/passwd", ""] {
            assert!(format!("blobs/{hash}/1").parse::<Source>().is_err(), "{hash}");
            assert!(format!("uploads/{ID}/blobs/{hash}/1").parse::<Upload>().is_err(), "{hash}");
        }
        for id in ["", "..", "x", &ID[1..], "67e55044-10b1-426f-9247-bb680e5fe0c\u{0}"] {
            assert_eq!(
                format!("uploads/{id}/blobs/{HASH}/1").parse::<Upload>(),
                Err(BadResource::NoUpload),
                "{id}"
            );
        }
        let long = "x".repeat(65);
        for name in ["", " ", ".", "..", "a/b", "/", "../x", "a\\b", "a\0b", "\u{1b}[2J", "a\u{202e}b", &long]
        {
            assert!(format!("files/{name}").parse::<Source>().is_err(), "{name:?}");
            assert!(format!("uploads/{ID}/blobs/{HASH}/1/{name}").parse::<Upload>().is_err(), "{name:?}");
        }
    }
}

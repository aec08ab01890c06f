//! Schemas from files: sources or compiled descriptors.

use std::{
    fs,
    path::{Path, PathBuf},
};

use prost::{Message as _, bytes::Bytes};
use protox::Compiler;

use crate::{Error, Schema, file::File};

/// A `FileDescriptorSet` whose files are not decoded.
#[derive(Clone, PartialEq, prost::Message)]
struct FileDescriptorSet {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    file: Vec<Bytes>,
}

impl Schema {
    /// Compiles sources. Imports are searched for in `includes`, or, if that is empty,
    /// in the directories of the sources and in the current directory.
    ///
    /// # Errors
    ///
    /// When a source has an error: its place as `file:line:column`.
    pub fn compile(sources: &[PathBuf], includes: &[PathBuf]) -> Result<Self, Error> {
        let mut includes = includes.to_vec();
        if includes.is_empty() {
            includes.push(PathBuf::from("."));
            for directory in sources.iter().filter_map(|source| source.parent()) {
                if !directory.as_os_str().is_empty() && !includes.iter().any(|include| include == directory) {
                    includes.push(directory.to_owned());
                }
            }
        }
        for source in sources {
            refuse_editions(source)?;
        }
        let compiled = Compiler::new(&includes).and_then(|mut compiler| {
            compiler.include_imports(true).include_source_info(true);
            let opened = sources
                .iter()
                .try_for_each(|source| compiler.open_file(in_one_of(&includes, source)).map(|_| ()));
            opened.map(|()| compiler)
        });
        // Only the debug format of the error contains the place.
        let compiler = compiled.map_err(|error| Error::Source(format!("{error:?}")))?;
        let own =
            compiler.files().filter(|file| !file.is_import()).map(|file| file.name().to_owned()).collect();
        let set = compiler.file_descriptor_set();
        let files = set.file.iter().map(|file| File::decode(&file.encode_to_vec()));
        Self::of(files.collect::<Result<_, _>>()?, own)
    }

    /// Reads a `FileDescriptorSet`, as `protoc --descriptor_set_out` and `buf build -o`
    /// write it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a `FileDescriptorSet`.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let bytes = fs::read(file).map_err(|error| Error::Unreadable { file: file.to_owned(), error })?;
        Self::decode(&bytes)
    }

    /// Reads a `FileDescriptorSet` from bytes.
    ///
    /// # Errors
    ///
    /// When the bytes are not a `FileDescriptorSet`.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let set = FileDescriptorSet::decode(bytes).map_err(Error::NotDescriptors)?;
        let files: Vec<_> = set.file.iter().map(|file| File::decode(file)).collect::<Result<_, _>>()?;
        let own = files.iter().map(|file| file.proto.name().to_owned()).collect();
        Self::of(files, own)
    }
}

/// Finds a source that is named relative to an include directory, as imports are.
fn in_one_of(includes: &[PathBuf], source: &Path) -> PathBuf {
    let found = || includes.iter().map(|include| include.join(source)).find(|path| path.exists());
    if source.exists() { source.to_owned() } else { found().unwrap_or_else(|| source.to_owned()) }
}

/// Reports editions, for which the compiler's own error message is only a syntax error.
fn refuse_editions(source: &Path) -> Result<(), Error> {
    let Ok(text) = fs::read_to_string(source) else { return Ok(()) };
    let edition = text.lines().position(|line| {
        line.trim_start().strip_prefix("edition").is_some_and(|rest| rest.trim_start().starts_with('='))
    });
    match edition {
        None => Ok(()),
        Some(line) => Err(Error::SourceInEdition(format!(
            "{}:{}: sources in editions cannot be compiled here; compile them by protoc or buf, and give the result with \
             --descriptors",
            source.display(),
            line + 1,
        ))),
    }
}

//! Schemas for tests.

use std::path::PathBuf;

use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor};
use schema::{
    Schema,
    json::{self, Misfit, Names, Object},
};

/// Of one source.
pub(crate) fn compiled(source: &str) -> Schema {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("test.proto"), source).unwrap();
    Schema::compile(&[PathBuf::from("test.proto")], &[directory.path().to_owned()]).unwrap()
}

pub(crate) fn message(schema: &Schema, name: &str) -> MessageDescriptor {
    schema.pool().get_message_by_name(name).unwrap()
}

pub(crate) fn read(desc: &MessageDescriptor, text: &str) -> Result<DynamicMessage, Misfit> {
    json::message(desc, Object { text, line: 1, column: 1 })
}

/// What comes back of a text, over the wire.
pub(crate) fn there_and_back(desc: &MessageDescriptor, text: &str) -> String {
    let message = read(desc, text).unwrap_or_else(|misfit| panic!("{text}: {misfit}"));
    let again = DynamicMessage::decode(desc.clone(), message.encode_to_vec().as_slice()).unwrap();
    json::text(&again, Names::Json)
}

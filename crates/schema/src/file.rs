//! One file of descriptors, checked and cut down to what is needed.
//!
//! A peer chooses these bytes, and prost-reflect panics on some: a map without a key,
//! an escape in a default that is none, options that a file defines in its own way. What
//! passes here does not make it panic.

use std::collections::HashMap;

use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumOptions, EnumValueOptions, FieldDescriptorProto, FieldOptions,
    FileDescriptorProto, MessageOptions, MethodOptions, ServiceDescriptorProto, ServiceOptions,
    SourceCodeInfo,
    field_descriptor_proto::{Label, Type},
};

use crate::{Error, edition};

/// A file that is fit for a pool, and its comments.
#[derive(Debug)]
pub(crate) struct File {
    pub(crate) proto: FileDescriptorProto,
    pub(crate) comments: Option<SourceCodeInfo>,
}

impl File {
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let mut proto = FileDescriptorProto::decode(bytes).map_err(Error::NotDescriptors)?;
        let comments = proto.source_code_info.take();
        let checked = match proto.syntax() {
            "" | "proto2" | "proto3" => Ok(()),
            "editions" => edition::lower(&mut proto, bytes),
            syntax => Err(format!("its syntax {syntax:?} is not supported")),
        };
        match checked.and_then(|()| fit(&mut proto)) {
            Ok(()) => Ok(Self { proto, comments }),
            Err(reason) => Err(Error::Invalid { file: proto.name().to_owned(), reason }),
        }
    }
}

fn fit(file: &mut FileDescriptorProto) -> Result<(), String> {
    if !file.package().is_empty() && !file.package().split('.').all(is_identifier) {
        return Err(format!("{:?} is no name of a package", file.package()));
    }
    if file.syntax().is_empty() {
        file.syntax = Some("proto2".to_owned());
    }
    file.options = None;
    file.message_type.iter_mut().try_for_each(message)?;
    file.enum_type.iter_mut().try_for_each(enumeration)?;
    file.service.iter_mut().try_for_each(service)?;
    extensions(&mut file.extension)
}

/// A name that can be written in a proto, and does no harm to a terminal.
fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn named(name: &str) -> Result<(), String> {
    if is_identifier(name) { Ok(()) } else { Err(format!("{name:?} is no name")) }
}

fn message(message: &mut DescriptorProto) -> Result<(), String> {
    named(message.name())?;
    message.options = message.options.as_ref().map(|options| MessageOptions {
        map_entry: options.map_entry,
        deprecated: options.deprecated,
        ..MessageOptions::default()
    });
    message.extension_range.iter_mut().for_each(|range| range.options = None);
    for oneof in &mut message.oneof_decl {
        named(oneof.name())?;
        oneof.options = None;
    }
    let mut json_names = HashMap::new();
    for one in &mut message.field {
        field(one)?;
        one.extendee = None;
        if one.label() == Label::Repeated && one.oneof_index.is_some() {
            return Err(format!("{} is repeated and in a oneof", one.name()));
        }
        let json_name = one.json_name.take().unwrap_or_else(|| camel_case(one.name()));
        *json_names.entry(json_name.clone()).or_insert(0) += 1;
        one.json_name = Some(json_name);
    }
    // Fields of proto2 may have the same one. Their own names tell them apart.
    let is_shared = |field: &&mut FieldDescriptorProto| json_names.get(field.json_name()) > Some(&1);
    for field in message.field.iter_mut().filter(is_shared) {
        field.json_name = field.name.clone();
    }
    if message.options.as_ref().is_some_and(|options| options.map_entry()) && !is_map_entry(message) {
        return Err(format!("{} is the entry of a map, and has no proper key and value", message.name()));
    }
    message.nested_type.iter_mut().try_for_each(self::message)?;
    message.enum_type.iter_mut().try_for_each(enumeration)?;
    extensions(&mut message.extension)
}

/// As protoc derives it from the name of a field.
fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if std::mem::take(&mut upper) => camel.push(c.to_ascii_uppercase()),
            c => camel.push(c),
        }
    }
    camel
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    let plain = |number, fits: fn(&FieldDescriptorProto) -> bool| {
        message.field.iter().any(|field| {
            field.number() == number
                && field.label() == Label::Optional
                && field.oneof_index.is_none()
                && fits(field)
        })
    };
    let is_key = |field: &FieldDescriptorProto| {
        let other = [Type::Double, Type::Float, Type::Group, Type::Message, Type::Bytes, Type::Enum];
        !other.contains(&field.r#type()) && field.type_name().is_empty()
    };
    message.field.len() == 2 && plain(1, is_key) && plain(2, |field| field.r#type() != Type::Group)
}

fn field(field: &mut FieldDescriptorProto) -> Result<(), String> {
    named(field.name())?;
    if Type::try_from(field.r#type.unwrap_or_default()).is_err() && field.type_name().is_empty() {
        return Err(format!("{} has a type that is not known here", field.name()));
    }
    field.options = field.options.as_ref().map(|options| FieldOptions {
        packed: options.packed,
        deprecated: options.deprecated,
        ..FieldOptions::default()
    });
    // Escapes that are none make prost-reflect panic, and a default of bytes is rare.
    if field.r#type() == Type::Bytes {
        field.default_value = None;
    }
    Ok(())
}

/// Those of options are left out, as are the options: no message has them.
fn extensions(extensions: &mut Vec<FieldDescriptorProto>) -> Result<(), String> {
    extensions
        .retain(|extension| !extension.extendee().trim_start_matches('.').starts_with("google.protobuf."));
    for extension in extensions {
        field(extension)?;
        extension.oneof_index = None;
        extension.json_name = None;
        if extension.extendee().is_empty() {
            return Err(format!("the extension {} extends nothing", extension.name()));
        }
    }
    Ok(())
}

fn enumeration(one: &mut EnumDescriptorProto) -> Result<(), String> {
    named(one.name())?;
    one.options = one.options.as_ref().map(|options| EnumOptions {
        allow_alias: options.allow_alias,
        deprecated: options.deprecated,
        ..EnumOptions::default()
    });
    for value in &mut one.value {
        named(value.name())?;
        value.options = value.options.as_ref().map(|options| EnumValueOptions {
            deprecated: options.deprecated,
            ..EnumValueOptions::default()
        });
    }
    Ok(())
}

fn service(service: &mut ServiceDescriptorProto) -> Result<(), String> {
    named(service.name())?;
    service.options = service
        .options
        .as_ref()
        .map(|options| ServiceOptions { deprecated: options.deprecated, ..ServiceOptions::default() });
    for method in &mut service.method {
        named(method.name())?;
        method.options = method
            .options
            .as_ref()
            .map(|options| MethodOptions { deprecated: options.deprecated, ..MethodOptions::default() });
    }
    Ok(())
}

//! A schema as proto text, with its comments.

use std::{collections::HashMap, fmt::Write as _};

use grpc_wire::mode_of;
use prost_reflect::{
    Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor, Syntax,
};
use shared_process::is_unseen;

use crate::{Schema, Unknown};

/// What can be shown: it has a name.
#[derive(Debug, Clone)]
enum Symbol {
    Service(ServiceDescriptor),
    Method(MethodDescriptor),
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

impl Schema {
    /// A service, a method (`package.Service/Method` or `package.Service.Method`), a
    /// message or an enum as proto text, followed by the messages and enums that it needs.
    ///
    /// # Errors
    ///
    /// When nothing has that name.
    pub fn text(&self, name: &str) -> Result<String, Unknown> {
        let symbol = self.symbol(name)?;
        let mut writer = Writer { schema: self, comments: HashMap::new(), text: String::new() };
        let mut next = Vec::new();
        let begin = |next: &mut Vec<Symbol>, methods: &[MethodDescriptor]| {
            for method in methods.iter().rev() {
                next.extend([Symbol::Message(method.output()), Symbol::Message(method.input())]);
            }
        };
        match &symbol {
            Symbol::Service(service) => {
                let methods: Vec<_> = service.methods().collect();
                writer.service(service, &methods);
                begin(&mut next, &methods);
            }
            Symbol::Method(method) => {
                let methods = [method.clone()];
                writer.service(method.parent_service(), &methods);
                begin(&mut next, &methods);
            }
            other => next.push(other.clone()),
        }
        let mut shown = std::collections::HashSet::new();
        while let Some(symbol) = next.pop() {
            // Google's own are known, and have forms of their own in JSON.
            let wanted = |full_name: &str| name == full_name || !full_name.starts_with("google.protobuf.");
            match symbol {
                Symbol::Message(message)
                    if wanted(message.full_name()) && shown.insert(message.full_name().to_owned()) =>
                {
                    writer.gap();
                    writer.message(&message);
                    let needed: Vec<_> = message.fields().filter_map(|field| needed(&field)).collect();
                    next.extend(needed.into_iter().rev());
                }
                Symbol::Enum(one) if wanted(one.full_name()) && shown.insert(one.full_name().to_owned()) => {
                    writer.gap();
                    writer.enumeration(&one);
                }
                _ => {}
            }
        }
        Ok(writer.text)
    }

    fn symbol(&self, name: &str) -> Result<Symbol, Unknown> {
        let pool = self.pool();
        if let Some(service) = pool.get_service_by_name(name) {
            return Ok(Symbol::Service(service));
        }
        if let Some(message) = pool.get_message_by_name(name) {
            return Ok(Symbol::Message(message));
        }
        if let Some(one) = pool.get_enum_by_name(name) {
            return Ok(Symbol::Enum(one));
        }
        let split = name.rsplit_once('/').or_else(|| name.rsplit_once('.'));
        if let Some((service, method)) = split
            && (name.contains('/') || self.service(service).is_ok())
        {
            return self.method(service, method).map(Symbol::Method);
        }
        if let Ok(service) = self.service(name) {
            return Ok(Symbol::Service(service));
        }
        let services = self.services().map(|service| service.full_name().to_owned());
        let messages = pool.all_messages().map(|message| message.full_name().to_owned());
        Err(Unknown::among("service or message", name, services.chain(messages)))
    }
}

/// The message or the enum that a field is of.
fn needed(field: &FieldDescriptor) -> Option<Symbol> {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => needed(&entry.map_entry_value_field()),
        Kind::Message(message) => Some(Symbol::Message(message)),
        Kind::Enum(one) => Some(Symbol::Enum(one)),
        _ => None,
    }
}

struct Writer<'a> {
    schema: &'a Schema,
    /// Of each file that something was shown of: by the path, what is before it.
    comments: HashMap<String, HashMap<&'a [i32], &'a str>>,
    text: String,
}

impl Writer<'_> {
    fn gap(&mut self) {
        if !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn line(&mut self, indent: usize, line: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{:indent$}{line}", "", indent = indent * 2);
    }

    /// The comment before something, if it has one.
    fn comment(&mut self, indent: usize, file: &str, path: &[i32]) {
        let comments = self.comments.entry(file.to_owned()).or_insert_with(|| {
            let locations = self.schema.comments.get(file).map(|info| info.location.as_slice());
            let comment = |location: &'_ prost_types::source_code_info::Location| {
                !location.leading_comments().is_empty()
            };
            let commented = locations.unwrap_or_default().iter().filter(|location| comment(location));
            commented.map(|location| (location.path.as_slice(), location.leading_comments())).collect()
        });
        let Some(comment) = comments.get(path) else { return };
        let lines: Vec<String> = comment
            .trim_end()
            .lines()
            .map(|line| line.chars().map(|c| if is_unseen(c) { ' ' } else { c }).collect())
            .collect();
        for line in lines {
            self.line(indent, format!("//{line}").trim_end());
        }
    }

    fn service(&mut self, service: &ServiceDescriptor, methods: &[MethodDescriptor]) {
        let file = service.parent_file();
        self.comment(0, file.name(), service.path());
        self.line(0, &format!("service {} {{", service.full_name()));
        for (n, method) in methods.iter().enumerate() {
            if n > 0 {
                self.text.push('\n');
            }
            self.comment(1, file.name(), method.path());
            let stream = |is_stream| if is_stream { "stream " } else { "" };
            self.line(
                1,
                &format!(
                    "rpc {}({}{}) returns ({}{}); // {}",
                    method.name(),
                    stream(method.is_client_streaming()),
                    method.input().full_name(),
                    stream(method.is_server_streaming()),
                    method.output().full_name(),
                    mode_of(method).name(),
                ),
            );
        }
        self.line(0, "}");
    }

    fn message(&mut self, message: &MessageDescriptor) {
        let file = message.parent_file();
        self.comment(0, file.name(), message.path());
        self.line(0, &format!("message {} {{", message.full_name()));
        let mut oneofs = Vec::new();
        for field in message.fields() {
            match field.containing_oneof().filter(|oneof| !oneof.is_synthetic()) {
                Some(oneof) if oneofs.contains(&oneof.name().to_owned()) => {}
                Some(oneof) => {
                    oneofs.push(oneof.name().to_owned());
                    self.comment(1, file.name(), oneof.path());
                    self.line(1, &format!("oneof {} {{", oneof.name()));
                    oneof.fields().for_each(|field| self.field(2, &field));
                    self.line(1, "}");
                }
                None => self.field(1, &field),
            }
        }
        for extension in message.extensions() {
            self.line(
                1,
                &format!(
                    "// extension {} {} = {};",
                    kind(&extension.kind()),
                    extension.json_name(),
                    extension.number()
                ),
            );
        }
        self.line(0, "}");
    }

    fn field(&mut self, indent: usize, field: &FieldDescriptor) {
        self.comment(indent, field.parent_file().name(), field.path());
        let is_proto3 = field.parent_file().syntax() == Syntax::Proto3;
        let in_oneof = field.containing_oneof().is_some_and(|oneof| !oneof.is_synthetic());
        let is_message = matches!(field.kind(), Kind::Message(_));
        let label = match field.cardinality() {
            _ if field.is_map() || in_oneof => "",
            Cardinality::Repeated => "repeated ",
            Cardinality::Required => "required ",
            Cardinality::Optional if field.supports_presence() && !(is_proto3 && is_message) => "optional ",
            Cardinality::Optional => "",
        };
        let kind = match field.kind() {
            Kind::Message(entry) if field.is_map() => format!(
                "map<{}, {}>",
                kind(&entry.map_entry_key_field().kind()),
                kind(&entry.map_entry_value_field().kind())
            ),
            Kind::Message(message) if field.is_group() => format!("group {}", message.full_name()),
            other => kind(&other),
        };
        self.line(indent, &format!("{label}{kind} {} = {};", field.name(), field.number()));
    }

    fn enumeration(&mut self, one: &EnumDescriptor) {
        let file = one.parent_file();
        self.comment(0, file.name(), one.path());
        self.line(0, &format!("enum {} {{", one.full_name()));
        for value in one.values() {
            self.comment(1, file.name(), value.path());
            self.line(1, &format!("{} = {};", value.name(), value.number()));
        }
        self.line(0, "}");
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Message(message) => message.full_name().to_owned(),
        Kind::Enum(one) => one.full_name().to_owned(),
        scalar => format!("{scalar:?}"),
    }
}

//! A request to fill in.

use prost_reflect::{Kind, MessageDescriptor, Value};
use serde_json::{Map, Value as Json, json};

/// JSON with every field of a message and a value of its type. Of a oneof it has the
/// first field. A message within itself is left empty.
pub fn template(desc: &MessageDescriptor, proto_names: bool) -> Json {
    Template { proto_names, within: Vec::new() }.message(desc)
}

struct Template {
    proto_names: bool,
    /// The messages that are around.
    within: Vec<String>,
}

impl Template {
    fn message(&mut self, desc: &MessageDescriptor) -> Json {
        /// Deeper, nobody reads it any more.
        const DEEPEST: usize = 5;
        match desc.full_name() {
            "google.protobuf.Any" => {
                return json!({ "@type": "type.googleapis.com/google.protobuf.Duration", "value": "0s" });
            }
            "google.protobuf.Timestamp" => return json!("1970-01-01T00:00:00Z"),
            "google.protobuf.Duration" => return json!("0s"),
            "google.protobuf.FieldMask" => return json!(""),
            "google.protobuf.ListValue" => return json!([]),
            "google.protobuf.Struct" => return json!({}),
            "google.protobuf.Value" => return Json::Null,
            name if name.starts_with("google.protobuf.") && name.ends_with("Value") => {
                return desc.get_field(1).map_or(Json::Null, |field| self.one(&field.kind()));
            }
            _ => {}
        }
        let mut fields = Map::new();
        if self.within.len() == DEEPEST || self.within.iter().any(|name| name == desc.full_name()) {
            return Json::Object(fields);
        }
        self.within.push(desc.full_name().to_owned());
        for field in desc.fields() {
            let is_other = field.containing_oneof().is_some_and(|oneof| {
                oneof.fields().next().is_some_and(|first| first.number() != field.number())
            });
            if is_other {
                continue;
            }
            let name = if self.proto_names { field.name() } else { field.json_name() };
            let value = match field.kind() {
                Kind::Message(entry) if field.is_map() => {
                    let key = match entry.map_entry_key_field().kind() {
                        Kind::String => "key",
                        Kind::Bool => "false",
                        _ => "0",
                    };
                    json!({ key: self.one(&entry.map_entry_value_field().kind()) })
                }
                kind if field.is_list() => json!([self.one(&kind)]),
                kind => match (&kind, field.default_value()) {
                    (Kind::String, Value::String(text)) => json!(text),
                    (Kind::Enum(desc), Value::EnumNumber(number)) => {
                        json!(desc.get_value(number).map(|value| value.name().to_owned()))
                    }
                    _ => self.one(&kind),
                },
            };
            fields.insert(name.to_owned(), value);
        }
        self.within.pop();
        Json::Object(fields)
    }

    fn one(&mut self, kind: &Kind) -> Json {
        match kind {
            Kind::Bool => json!(false),
            Kind::String | Kind::Bytes => json!(""),
            Kind::Int64 | Kind::Uint64 | Kind::Sint64 | Kind::Fixed64 | Kind::Sfixed64 => json!("0"),
            Kind::Enum(desc) => json!(desc.default_value().name()),
            Kind::Message(desc) => self.message(desc),
            _ => json!(0),
        }
    }
}

//! A message as it was on the wire, and ways to show it: its descriptor tells
//! what is in it, so no message needs code of its own here.

use std::{borrow::Cow, fmt::Write as _};

use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, ReflectMessage as _, SerializeOptions, Value,
};

use crate::{
    compression, raw,
    words::{counted, printable},
};

/// The bytes of one message, without gRPC's prefix.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// As they came.
    pub bytes: &'a [u8],
    /// How gRPC has compressed them, if it has.
    pub encoding: Option<&'a str>,
    /// `None` for an RPC that is in no proto at hand.
    pub descriptor: Option<&'a MessageDescriptor>,
}

/// How many elements of a list are shown in text.
const LISTED: usize = 3;
/// How much of a field of bytes.
const LEGIBLE: usize = 256;

impl Message<'_> {
    /// By the [protobuf JSON mapping](https://protobuf.dev/programming-guides/json/),
    /// with the names of the proto. Without a descriptor by the numbers of the fields.
    /// `null` for what cannot be decoded.
    pub fn json(&self) -> serde_json::Value {
        const OPTIONS: SerializeOptions =
            SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        let Some(mut message) = self.decoded() else {
            return self.raw(raw::json).unwrap_or(serde_json::Value::Null);
        };
        let long = take_long_bytes(&mut message);
        let json = message.serialize_with_options(serde_json::value::Serializer, &OPTIONS);
        let mut json = json.unwrap_or(serde_json::Value::Null);
        for (name, length) in long {
            json[name] = serde_json::json!({ "bytes": length });
        }
        json
    }

    /// On one line, for people: `a: 6  b: 7`. Times, empty strings and what is
    /// unspecified are left out, long lists and UUIDs are cut.
    pub fn text(&self) -> String {
        match self.decoded() {
            Some(message) => {
                let mut text = String::new();
                write_fields(&mut text, &message);
                if text.is_empty() { "(empty)".to_owned() } else { text }
            }
            None => self
                .raw(|raw| if raw.is_empty() { "(empty)".to_owned() } else { raw::text(raw) })
                .unwrap_or_else(|| counted(self.bytes.len() as u64, "byte")),
        }
    }

    /// Without its compression, as far as that is known.
    fn plain(&self) -> Option<Cow<'_, [u8]>> {
        match self.encoding {
            None => Some(self.bytes.into()),
            Some(encoding) => compression::plain(encoding, self.bytes).map(Cow::Owned),
        }
    }

    /// Its fields by their numbers, where nobody knows their names.
    fn raw<T>(&self, show: impl FnOnce(&[raw::Field<'_>]) -> T) -> Option<T> {
        if self.descriptor.is_some() {
            return None;
        }
        raw::fields(&self.plain()?).map(|fields| show(&fields))
    }

    fn decoded(&self) -> Option<DynamicMessage> {
        DynamicMessage::decode(self.descriptor?.clone(), &*self.plain()?).ok()
    }
}

/// Takes out what fills a screen and tells nothing, such as a chunk of a file:
/// the name and the length of each.
fn take_long_bytes(message: &mut DynamicMessage) -> Vec<(String, usize)> {
    const SHOWN: usize = 64;
    let long = message.fields().filter_map(|(field, value)| match value {
        Value::Bytes(bytes) if bytes.len() > SHOWN => Some((field.name().to_owned(), bytes.len())),
        _ => None,
    });
    let long: Vec<_> = long.collect();
    long.iter().for_each(|(name, _)| message.clear_field_by_name(name));
    long
}

fn write_fields(text: &mut String, message: &DynamicMessage) {
    let descriptor = message.descriptor();
    let set = |field: &FieldDescriptor| match field.kind() {
        Kind::String | Kind::Enum(_) if !field.is_list() => message.has_field(field),
        _ if field.is_map() => message.has_field(field),
        _ => !field.supports_presence() || message.has_field(field),
    };
    let mut separator = "";
    for field in descriptor.fields().filter(set).filter(|field| !is_time(field)) {
        text.push_str(separator);
        separator = "  ";
        text.push_str(field.name());
        let value = message.get_field(&field);
        text.push_str(if matches!(*value, Value::Message(_)) && !is_duration(&field) { " " } else { ": " });
        write_value(text, &field, &value);
    }
}

fn write_value(text: &mut String, field: &FieldDescriptor, value: &Value) {
    // Writing to a string cannot fail.
    let _ = match value {
        // Its end tells it from others that were made at the same time.
        Value::String(uuid) if uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok() => {
            write!(text, "…{}", &uuid[28..])
        }
        Value::String(string) => {
            write_text(text, string);
            Ok(())
        }
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(legible) if bytes.len() <= LEGIBLE => {
                let quoted = legible.replace('\\', r"\\").replace('"', r#"\""#);
                write!(text, "\"{}\"", printable(&quoted))
            }
            _ => write!(text, "{}", counted(bytes.len() as u64, "byte")),
        },
        Value::F64(number) => write!(text, "{}", (number * 1e3).round() / 1e3),
        Value::EnumNumber(number) => match field.kind() {
            Kind::Enum(names) if names.get_value(*number).is_some() => {
                write!(text, "{}", names.get_value(*number).as_ref().map_or("", |name| name.name()))
            }
            _ => write!(text, "{number}"),
        },
        Value::Message(duration) if is_duration(field) => {
            write!(
                text,
                "{}",
                serde_json::to_value(duration).ok().as_ref().and_then(|v| v.as_str()).unwrap_or("?")
            )
        }
        Value::Message(message) => {
            text.push('{');
            write_fields(text, message);
            write!(text, "}}")
        }
        Value::List(items) => {
            text.push('[');
            for (n, item) in items.iter().take(LISTED).enumerate() {
                text.push_str(if n > 0 { ", " } else { "" });
                write_value(text, field, item);
            }
            match items.len().saturating_sub(LISTED) {
                0 => write!(text, "]"),
                more => write!(text, ", … {more} more]"),
            }
        }
        Value::Map(entries) => {
            let Kind::Message(entry) = field.kind() else { return };
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (n, (key, value)) in entries.iter().take(LISTED).enumerate() {
                text.push_str(if n > 0 { ", " } else { "" });
                write_value(text, &entry.map_entry_key_field(), &(*key).clone().into());
                text.push_str(": ");
                write_value(text, &entry.map_entry_value_field(), value);
            }
            match entries.len().saturating_sub(LISTED) {
                0 => write!(text, "}}"),
                more => write!(text, ", … {more} more}}"),
            }
        }
        other => write!(text, "{other}"),
    };
}

/// The times of the events are on the diagram already.
fn is_time(field: &FieldDescriptor) -> bool {
    is_message(field, "google.protobuf.Timestamp")
}

fn is_duration(field: &FieldDescriptor) -> bool {
    is_message(field, "google.protobuf.Duration")
}

fn is_message(field: &FieldDescriptor, name: &str) -> bool {
    field.kind().as_message().is_some_and(|message| message.full_name() == name)
}

/// In quotation marks where it would otherwise run into what is around it.
fn write_text(text: &mut String, string: &str) {
    let plain = |c: char| !c.is_whitespace() && !"{}[]:,\"".contains(c);
    let safe = printable(string);
    if !safe.is_empty() && safe.chars().all(plain) {
        text.push_str(&safe);
    } else {
        text.extend(["\"", &safe, "\""]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, bytes: &[u8]) -> (String, String) {
        let descriptor = shared_proto::POOL.get_message_by_name(name).unwrap();
        let message = Message { bytes, encoding: None, descriptor: Some(&descriptor) };
        (message.text(), message.json().to_string())
    }

    #[test]
    fn fields_are_shown_by_name_also_when_they_are_zero() {
        let (text, json) = shown("fourmodes.v1.MultiplyRequest", &[8, 6]);
        assert_eq!(text, "a: 6  b: 0");
        assert_eq!(json, r#"{"a":"6","b":"0"}"#);
    }

    #[test]
    fn what_is_unset_is_left_out_and_what_is_nested_is_in_braces() {
        let (text, _) = shown("fourmodes.v1.ChatRequest", b"\x0a\x09\x0a\x01r\x12\x04a\x1b[m");
        assert_eq!(text, r#"join {room: r  name: "a\u{1b}[m"}"#);
    }

    #[test]
    fn durations_enums_and_floats_are_shown_as_people_write_them() {
        let (text, _) = shown("fourmodes.v1.WatchQuotesRequest", b"\x0a\x01A\x1a\x05\x10\x80\xc2\xd7\x2f");
        assert_eq!(text, "symbols: [A]  count: 0  interval: 0.100s");
        let (text, _) = shown("fourmodes.v1.ModeStatus", b"\x08\x04\x10\x01");
        assert!(text.starts_with("mode: MODE_BIDI_STREAMING  served: true  calls_started: 0"), "{text}");
        let (text, _) = shown("fourmodes.v1.ProcessLoad", b"\x09\x9a\x99\x99\x99\x99\x99\xf1\x3f");
        assert!(text.starts_with("cpu_percent: 1.1  "), "{text}");
        assert_eq!(shown("fourmodes.v1.GetStatusRequest", b"").0, "(empty)");
    }

    #[test]
    fn strings_are_told_from_what_is_around_them() {
        let (text, _) = shown("fourmodes.v1.JoinRoom", b"\x12\x08a b: {c}");
        assert_eq!(text, r#"name: "a b: {c}""#);
    }

    #[test]
    fn times_are_left_out_of_the_text() {
        let (text, json) =
            shown("fourmodes.v1.RoomEvent", b"\x08\x03\x12\x02\x08\x01\x1a\x01a\x32\x04\x0a\x02hi");
        assert_eq!(text, "sequence: 3  name: a  posted {text: hi}");
        assert!(json.contains(r#""time":"1970-01-01T00:00:01Z""#), "{json}");
    }

    #[test]
    fn uuids_are_cut_and_empty_strings_left_out() {
        let id = "01939f6c-8a1b-7c2d-9e3f-0123456789ab";
        let (text, json) =
            shown("fourmodes.v1.PostAccepted", &[b"\x0a\x24", id.as_bytes(), b"\x10\x07"].concat());
        assert_eq!(text, "message_id: …456789ab  sequence: 7");
        assert!(json.contains(id), "{json}");
        assert_eq!(shown("fourmodes.v1.PostAccepted", b"\x10\x07").0, "sequence: 7");
    }

    #[test]
    fn long_lists_are_cut() {
        let (text, json) =
            shown("fourmodes.v1.MemberJoined", b"\x0a\x01a\x0a\x01b\x0a\x01c\x0a\x01d\x0a\x01e");
        assert_eq!(text, "members: [a, b, c, … 2 more]");
        assert_eq!(json, r#"{"members":["a","b","c","d","e"]}"#);
    }

    #[test]
    fn few_bytes_of_text_are_shown_and_others_are_counted() {
        let (text, json) = shown("google.bytestream.ReadResponse", b"\x52\x02hi");
        assert_eq!((text.as_str(), json.as_str()), (r#"data: "hi""#, r#"{"data":"aGk="}"#));
        let (text, _) = shown("fourmodes.v1.LogChunk", b"\x0a\x05a\x1b\xc3\xb6\n");
        assert!(!text.contains('\x1b') && text.contains('ö'), "{text}");
        let chunk = [&b"\x52\x80\x01"[..], &[0xff; 128]].concat();
        let (text, json) = shown("google.bytestream.ReadResponse", &chunk);
        assert_eq!((text.as_str(), json.as_str()), ("data: 128 bytes", r#"{"data":{"bytes":128}}"#));
        let long = [b"\x0a\xad\x02".as_slice(), &[b'x'; 301]].concat();
        assert_eq!(shown("fourmodes.v1.LogChunk", &long).0, "data: 301 bytes");
    }

    #[test]
    fn what_cannot_be_decoded_is_counted() {
        let (text, json) = shown("fourmodes.v1.MultiplyRequest", &[0xff, 0xff]);
        assert_eq!((text.as_str(), json.as_str()), ("2 bytes", "null"));
    }
}

//! From a message to JSON.
//!
//! It never fails. What the mapping has no form for, such as a time in the year 10,000
//! or an `Any` of a type that is not known, is shown by its fields. A field that the
//! descriptor does not have is shown by its number.

use std::io::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::{
    bytes::{Buf as _, Bytes},
    encoding::{WireType, decode_varint},
};
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MapKey, ReflectMessage as _, UnknownField, Value};
use prost_types::{Duration, Timestamp};
use shared_process::is_unseen;

use super::known;

/// Which names fields have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// `lowerCamelCase`, as the mapping has it.
    Json,
    /// As in the proto.
    Proto,
}

/// Messages within `Any`s, which no decoder counts, are shown down to here.
const DEEPEST: usize = 64;

/// Appends a message, on one line.
pub fn append(out: &mut Vec<u8>, message: &DynamicMessage, names: Names) {
    Writer { out, names, depth: 0 }.message(message);
}

/// A message on one line.
pub fn text(message: &DynamicMessage, names: Names) -> String {
    let mut out = Vec::new();
    append(&mut out, message, names);
    // It writes nothing else than UTF-8.
    String::from_utf8(out).unwrap_or_default()
}

/// A message on several lines, for people.
pub fn readable(message: &DynamicMessage, names: Names) -> String {
    let line = text(message, names);
    let lines = serde_json::from_str(&line)
        .and_then(|value: serde_json::Value| serde_json::to_string_pretty(&value))
        .unwrap_or(line);
    let mut seen = String::with_capacity(lines.len());
    for c in lines.chars() {
        match c {
            '\n' => seen.push(c),
            c if is_unseen(c) => seen.push_str(&escaped(c)),
            c => seen.push(c),
        }
    }
    seen
}

struct Writer<'a> {
    out: &'a mut Vec<u8>,
    names: Names,
    depth: usize,
}

impl Writer<'_> {
    fn message(&mut self, message: &DynamicMessage) {
        if self.depth == DEEPEST {
            return self.raw("\"…\"");
        }
        self.depth += 1;
        if !self.known(message) {
            self.raw("{");
            self.fields(message, true);
            self.raw("}");
        }
        self.depth -= 1;
    }

    fn fields(&mut self, message: &DynamicMessage, mut first: bool) {
        for (field, value) in message.fields() {
            let name = if self.names == Names::Proto { field.name() } else { field.json_name() };
            self.name(name, &mut first);
            self.value(&field.kind(), value);
        }
        for (extension, value) in message.extensions() {
            self.name(extension.json_name(), &mut first);
            self.value(&extension.kind(), value);
        }
        let unknown: Vec<_> = message.unknown_fields().collect();
        for same in unknown.chunk_by(|a, b| a.number() == b.number()) {
            self.name(&same[0].number().to_string(), &mut first);
            match same {
                [one] => self.unknown(one, message.descriptor().parent_pool()),
                several => {
                    self.list(several.iter(), |it, one| it.unknown(one, message.descriptor().parent_pool()))
                }
            }
        }
    }

    fn value(&mut self, kind: &Kind, value: &Value) {
        match value {
            Value::Bool(value) => self.raw(if *value { "true" } else { "false" }),
            Value::I32(number) => self.display(number),
            Value::U32(number) => self.display(number),
            // JavaScript would lose their last digits.
            Value::I64(number) => self.display(format_args!("\"{number}\"")),
            Value::U64(number) => self.display(format_args!("\"{number}\"")),
            Value::F32(number) => self.float(f64::from(*number), number),
            Value::F64(number) => self.float(*number, number),
            Value::String(text) => self.string(text),
            Value::Bytes(bytes) => self.string(&BASE64_STANDARD.encode(bytes)),
            Value::EnumNumber(number) => match kind {
                Kind::Enum(desc) if desc.full_name() == "google.protobuf.NullValue" => self.raw("null"),
                Kind::Enum(desc) => match desc.get_value(*number) {
                    Some(value) => self.string(value.name()),
                    None => self.display(number),
                },
                _ => self.display(number),
            },
            Value::Message(message) => self.message(message),
            Value::List(items) => self.list(items.iter(), |it, item| it.value(kind, item)),
            Value::Map(entries) => {
                let kind = match kind {
                    Kind::Message(entry) if entry.is_map_entry() => entry.map_entry_value_field().kind(),
                    kind => kind.clone(),
                };
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by(|(a, _), (b, _)| in_order(a, b));
                self.raw("{");
                let mut first = true;
                for (key, value) in entries {
                    match key {
                        MapKey::String(key) => self.name(key, &mut first),
                        MapKey::Bool(key) => self.name(&key.to_string(), &mut first),
                        MapKey::I32(key) => self.name(&key.to_string(), &mut first),
                        MapKey::I64(key) => self.name(&key.to_string(), &mut first),
                        MapKey::U32(key) => self.name(&key.to_string(), &mut first),
                        MapKey::U64(key) => self.name(&key.to_string(), &mut first),
                    }
                    self.value(&kind, value);
                }
                self.raw("}");
            }
        }
    }

    fn list<T>(&mut self, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut Self, T)) {
        self.raw("[");
        for (index, item) in items.enumerate() {
            if index > 0 {
                self.raw(",");
            }
            write(self, item);
        }
        self.raw("]");
    }

    /// Writes a well-known type in its own form, if it has one.
    fn known(&mut self, message: &DynamicMessage) -> bool {
        let desc = message.descriptor();
        let Some(name) =
            desc.full_name().strip_prefix("google.protobuf.").filter(|_| known::is_known(desc.full_name()))
        else {
            return false;
        };
        let field = |number| message.get_field_by_number(number);
        let integer = |number| match field(number).as_deref() {
            Some(Value::I64(number)) => *number,
            Some(Value::I32(number)) => i64::from(*number),
            _ => 0,
        };
        // Their nanos are of 32 bits, so that the cast is exact.
        let (seconds, nanos) = (integer(1), integer(2) as i32);
        match name {
            "Timestamp" if (known::FIRST_SECOND..=known::LAST_SECOND).contains(&seconds) => {
                let is_fraction = (0..1_000_000_000).contains(&nanos);
                if is_fraction {
                    self.display(format_args!("\"{}\"", Timestamp { seconds, nanos }));
                }
                is_fraction
            }
            "Duration" if seconds.unsigned_abs() <= known::LONGEST.unsigned_abs() => {
                let is_fraction = nanos.unsigned_abs() < 1_000_000_000;
                let is_one_sided = seconds.signum() * i64::from(nanos.signum()) >= 0;
                if is_fraction && is_one_sided {
                    self.display(format_args!("\"{}\"", Duration { seconds, nanos }));
                }
                is_fraction && is_one_sided
            }
            "FieldMask" => {
                let paths = field(1);
                let paths = paths.as_deref().and_then(Value::as_list).unwrap_or_default();
                let camel: Option<Vec<_>> =
                    paths.iter().map(|path| path.as_str().and_then(camel_case)).collect();
                camel.map(|paths| self.string(&paths.join(","))).is_some()
            }
            "Any" => self.any(message),
            "Struct" | "ListValue" => {
                let Some(inner) = field(1) else { return false };
                self.value(&desc.get_field(1).map_or(Kind::Bool, |field| field.kind()), &inner);
                true
            }
            "Value" => {
                match message.fields().next() {
                    Some((field, value)) => self.value(&field.kind(), value),
                    None => self.raw("null"),
                }
                true
            }
            name if known::is_wrapper(name) => {
                let (Some(field), Some(value)) = (desc.get_field(1), field(1)) else { return false };
                self.value(&field.kind(), &value);
                true
            }
            _ => false,
        }
    }

    fn any(&mut self, message: &DynamicMessage) -> bool {
        let (url, bytes) = (message.get_field_by_number(1), message.get_field_by_number(2));
        let url = url.as_deref().and_then(Value::as_str).unwrap_or_default();
        let bytes = bytes.as_deref().and_then(Value::as_bytes).cloned().unwrap_or_default();
        if url.is_empty() && bytes.is_empty() {
            return false;
        }
        self.raw("{");
        let mut first = true;
        self.name("@type", &mut first);
        self.string(url);
        let name = url.rsplit('/').next().unwrap_or_default();
        let pool = message.descriptor().parent_pool().clone();
        let inner =
            pool.get_message_by_name(name).and_then(|desc| DynamicMessage::decode(desc, bytes.clone()).ok());
        match inner {
            Some(inner) if known::is_known(name) => {
                self.name("value", &mut first);
                self.message(&inner);
            }
            Some(inner) if self.depth < DEEPEST => {
                self.depth += 1;
                self.fields(&inner, false);
                self.depth -= 1;
            }
            _ => {
                self.name("value", &mut first);
                self.string(&BASE64_STANDARD.encode(&bytes));
            }
        }
        self.raw("}");
        true
    }

    /// Without a descriptor: numbers as they are, bytes as text where they are.
    fn unknown(&mut self, field: &UnknownField, pool: &DescriptorPool) {
        let mut encoded = Vec::new();
        field.encode(&mut encoded);
        let mut bytes = Bytes::from(encoded);
        // Its tag, which is a number as well.
        let _ = decode_varint(&mut bytes);
        match field.wire_type() {
            WireType::Varint => self.number(decode_varint(&mut bytes).unwrap_or_default()),
            WireType::SixtyFourBit => self.number(bytes.try_get_u64_le().unwrap_or_default()),
            WireType::ThirtyTwoBit => self.number(bytes.try_get_u32_le().unwrap_or_default().into()),
            WireType::LengthDelimited => {
                let _ = decode_varint(&mut bytes);
                match std::str::from_utf8(&bytes) {
                    Ok(text) if !text.contains(is_unseen) => self.string(text),
                    _ => self.string(&BASE64_STANDARD.encode(&bytes)),
                }
            }
            // Its end is a tag too, which the fields in it do not miss.
            _ => {
                let empty = pool.get_message_by_name("google.protobuf.Empty");
                let end = bytes.len() - prost::encoding::key_len(field.number()).min(bytes.len());
                match empty.and_then(|desc| DynamicMessage::decode(desc, bytes.slice(..end)).ok()) {
                    Some(group) => self.message(&group),
                    None => self.raw("{}"),
                }
            }
        }
    }

    /// As a string where JavaScript would lose digits.
    fn number(&mut self, number: u64) {
        match number {
            0..=0x1f_ffff_ffff_ffff => self.display(number),
            _ => self.display(format_args!("\"{number}\"")),
        }
    }

    /// `shown` is the shortest form of a number.
    fn float(&mut self, number: f64, shown: &impl serde::Serialize) {
        if number.is_nan() {
            self.raw("\"NaN\"");
        } else if number.is_infinite() {
            self.raw(if number > 0.0 { "\"Infinity\"" } else { "\"-Infinity\"" });
        } else if number.fract() == 0.0 && number.abs() < 1e15 {
            self.display(format_args!("{number:.0}"));
        } else {
            // A Vec takes everything.
            let _ = serde_json::to_writer(&mut *self.out, shown);
        }
    }

    fn name(&mut self, name: &str, first: &mut bool) {
        if !std::mem::take(first) {
            self.raw(",");
        }
        self.string(name);
        self.raw(":");
    }

    /// What cannot be seen would act on a terminal, and is shown by its number.
    fn string(&mut self, text: &str) {
        self.raw("\"");
        let plain = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != b'"' && *byte != b'\\';
        if text.as_bytes().iter().all(plain) {
            self.raw(text);
        } else {
            for c in text.chars() {
                match c {
                    '"' => self.raw("\\\""),
                    '\\' => self.raw("\\\\"),
                    '\n' => self.raw("\\n"),
                    '\r' => self.raw("\\r"),
                    '\t' => self.raw("\\t"),
                    c if is_unseen(c) => self.raw(&escaped(c)),
                    c => self.raw(c.encode_utf8(&mut [0; 4])),
                }
            }
        }
        self.raw("\"");
    }

    fn raw(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    fn display(&mut self, value: impl std::fmt::Display) {
        // A Vec takes everything.
        let _ = write!(self.out, "{value}");
    }
}

/// By its number, or by two of them, as in UTF-16.
fn escaped(c: char) -> String {
    c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect()
}

fn in_order(a: &MapKey, b: &MapKey) -> std::cmp::Ordering {
    let number = |key: &MapKey| match key {
        MapKey::Bool(key) => i128::from(*key),
        MapKey::I32(key) => i128::from(*key),
        MapKey::I64(key) => i128::from(*key),
        MapKey::U32(key) => i128::from(*key),
        MapKey::U64(key) => i128::from(*key),
        MapKey::String(_) => 0,
    };
    number(a).cmp(&number(b)).then_with(|| a.as_str().cmp(&b.as_str()))
}

/// None for a path that would not come back as it was.
fn camel_case(snake: &str) -> Option<String> {
    let mut camel = String::with_capacity(snake.len());
    let mut upper = false;
    for c in snake.chars() {
        match c {
            '_' if !upper => upper = true,
            c if c.is_ascii_uppercase() => return None,
            c if std::mem::take(&mut upper) => {
                camel.push(Some(c).filter(char::is_ascii_lowercase)?.to_ascii_uppercase());
            }
            c => camel.push(c),
        }
    }
    (!upper).then_some(camel)
}

//! From JSON to a message.
//!
//! What prost-reflect has for this is stricter than the mapping in some places and more
//! lenient in others, and does not say where something is wrong.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    fmt::{self, Write as _},
};

use prost_reflect::{
    Cardinality, DynamicMessage, ExtensionDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value,
};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Misfit, Object, known, scalar};
use crate::Unknown;

/// Reads a message.
///
/// # Errors
///
/// What does not fit, and where.
pub fn message(desc: &MessageDescriptor, object: Object<'_>) -> Result<DynamicMessage, Misfit> {
    let reading =
        Reading { text: object.text, inner: Cell::new(None), path: RefCell::default(), depth: Cell::new(0) };
    let mut json = serde_json::Deserializer::from_str(object.text);
    let read = Of { kind: &Kind::Message(desc.clone()), reading: &reading }
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value));
    match read {
        Ok(Value::Message(message)) => Ok(message),
        // A kind that is a message gives nothing else.
        Ok(_) => Ok(DynamicMessage::new(desc.clone())),
        Err(error) => Err(reading.misfit(&object, &error)),
    }
}

/// One value while it is read.
pub(super) struct Reading<'a> {
    text: &'a str,
    /// Where the error is, when it is in a part that is read by itself: where that part
    /// begins, and the line and the column in there.
    inner: Cell<Option<(usize, usize, usize)>>,
    /// Where the error is, from the innermost name outwards.
    path: RefCell<Vec<Step>>,
    /// How many `Any`s are around.
    depth: Cell<usize>,
}

enum Step {
    Field(String),
    Index(usize),
}

impl<'a> Reading<'a> {
    fn misfit(&self, object: &Object<'_>, error: &serde_json::Error) -> Misfit {
        let mut path = String::new();
        for step in self.path.borrow().iter().rev() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Field(name) if path.is_empty() => write!(path, "{name}"),
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
            };
        }
        let (begin, line, column) = self.inner.get().unwrap_or((0, error.line(), error.column()));
        let (first_line, first_column) = advanced(object.line, object.column, &self.text[..begin]);
        let (line, column) = match line {
            0 | 1 => (first_line, first_column + (column as u64).saturating_sub(1)),
            more => (first_line + more as u64 - 1, column as u64),
        };
        let reason = bare(error);
        Misfit { path, reason, line, column }
    }

    /// Notes where an error is, on its way out.
    pub(super) fn at<T, E>(&self, name: &str, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.path.borrow_mut().push(Step::Field(name.to_owned()));
        }
        result
    }

    fn at_index<T, E>(&self, index: usize, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.path.borrow_mut().push(Step::Index(index));
        }
        result
    }

    /// Reads a part of the text again, as something else.
    pub(super) fn again<T>(
        &self,
        part: &'a str,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::StrRead<'a>>) -> serde_json::Result<T>,
    ) -> serde_json::Result<T> {
        /// JSON is written by hand, and nobody writes more.
        const DEEPEST: usize = 32;
        if self.depth.get() == DEEPEST {
            return Err(Error::custom("more than 32 google.protobuf.Any are within each other"));
        }
        self.depth.set(self.depth.get() + 1);
        let begin = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let value = read(&mut serde_json::Deserializer::from_str(part)).map_err(|error| {
            if self.inner.get().is_none() {
                self.inner.set(Some((begin, error.line(), error.column())));
            }
            Error::custom(bare(&error))
        })?;
        self.depth.set(self.depth.get() - 1);
        Ok(value)
    }
}

/// What serde_json says, without the place, which it says in every error.
fn bare(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Where a text ends that begins at a line and a column.
fn advanced(line: u64, column: u64, text: &str) -> (u64, u64) {
    match text.rsplit_once('\n') {
        Some((before, last)) => (line + before.matches('\n').count() as u64 + 1, last.len() as u64 + 1),
        None => (line, column + text.len() as u64),
    }
}

/// A value that is there: neither `null`, nor a list or a map.
pub(super) struct Of<'a, 'r> {
    pub(super) kind: &'a Kind,
    pub(super) reading: &'a Reading<'r>,
}

impl<'de: 'r, 'r> DeserializeSeed<'de> for Of<'_, 'r> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        match self.kind {
            Kind::Message(desc) => match known::read(desc, self.reading, json) {
                Ok(known) => known.map(Value::Message),
                Err(json) => {
                    json.deserialize_map(Fields { desc, reading: self.reading, skip: "" }).map(Value::Message)
                }
            },
            kind => json.deserialize_any(scalar::Scalar(kind)),
        }
    }
}

/// The fields of a message. `skip` is a name that is none of them.
pub(super) struct Fields<'a, 'r> {
    pub(super) desc: &'a MessageDescriptor,
    pub(super) reading: &'a Reading<'r>,
    pub(super) skip: &'static str,
}

impl<'de: 'r, 'r> Visitor<'de> for Fields<'_, 'r> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.desc.full_name())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DynamicMessage, A::Error> {
        let Self { desc, reading, skip } = self;
        let mut message = DynamicMessage::new(desc.clone());
        let mut seen = Vec::new();
        while let Some(field) = map.next_key_seed(Name { desc, skip })? {
            let Some(field) = field else {
                map.next_value::<serde::de::IgnoredAny>()?;
                continue;
            };
            let read = map.next_value_seed(Slot { shape: &field.shape(), reading });
            let Some(value) = reading.at(field.name(), read)? else { continue };
            reading.at(field.name(), field.take_place(&mut seen).map_err(A::Error::custom))?;
            match field {
                Field::Own(field) => message.set_field(&field, value),
                Field::Extension(extension) => message.set_extension(&extension, value),
            }
        }
        let is_missing = |field: &FieldDescriptor| field.is_required() && !message.has_field(field);
        match desc.fields().find(is_missing) {
            Some(field) => Err(A::Error::custom(format!("the required field {} is missing", field.name()))),
            None => Ok(message),
        }
    }
}

enum Field {
    Own(FieldDescriptor),
    Extension(ExtensionDescriptor),
}

impl Field {
    fn name(&self) -> &str {
        match self {
            Self::Own(field) => field.name(),
            Self::Extension(extension) => extension.json_name(),
        }
    }

    fn shape(&self) -> Shape {
        let (kind, is_map, cardinality) = match self {
            Self::Own(field) => (field.kind(), field.is_map(), field.cardinality()),
            Self::Extension(extension) => (extension.kind(), extension.is_map(), extension.cardinality()),
        };
        Shape { kind, is_map, is_list: cardinality == Cardinality::Repeated && !is_map }
    }

    /// Each field has one value, and each oneof one field.
    fn take_place(&self, seen: &mut Vec<u32>) -> Result<(), String> {
        let number = match self {
            Self::Own(field) => field.number(),
            Self::Extension(extension) => extension.number(),
        };
        if seen.contains(&number) {
            return Err("the field is there twice".to_owned());
        }
        if let Self::Own(field) = self
            && let Some(oneof) = field.containing_oneof()
            && let Some(other) = oneof.fields().find(|other| seen.contains(&other.number()))
        {
            return Err(format!(
                "{} is already set, and the oneof {} has one field",
                other.name(),
                oneof.name()
            ));
        }
        seen.push(number);
        Ok(())
    }
}

/// The name of a field: as in the proto, as in JSON, or that of an extension in brackets.
struct Name<'a> {
    desc: &'a MessageDescriptor,
    skip: &'static str,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<Field>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let Self { desc, skip } = self;
        if !skip.is_empty() && name == skip {
            return Ok(None);
        }
        let own = desc.get_field_by_json_name(name).or_else(|| desc.get_field_by_name(name)).map(Field::Own);
        let found = own.or_else(|| desc.get_extension_by_json_name(name).map(Field::Extension));
        found.map(Some).ok_or_else(|| {
            let names = desc.fields().map(|field| field.json_name().to_owned());
            let unknown = Unknown::among("field", name, names);
            E::custom(format!("{} has no such field: {unknown}", desc.full_name()))
        })
    }
}

/// What the place of a field takes.
struct Shape {
    kind: Kind,
    is_list: bool,
    is_map: bool,
}

/// The place of a field. `null` leaves it empty.
struct Slot<'a, 'r> {
    shape: &'a Shape,
    reading: &'a Reading<'r>,
}

impl<'de: 'r, 'r> DeserializeSeed<'de> for Slot<'_, 'r> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        let takes_null = match &self.shape.kind {
            Kind::Message(desc) => desc.full_name() == "google.protobuf.Value",
            Kind::Enum(desc) => desc.full_name() == "google.protobuf.NullValue",
            _ => false,
        };
        if takes_null && !self.shape.is_list && !self.shape.is_map {
            let Self { shape, reading } = self;
            return Of { kind: &shape.kind, reading }.deserialize(json).map(Some);
        }
        json.deserialize_option(self)
    }
}

impl<'de: 'r, 'r> Visitor<'de> for Slot<'_, 'r> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        let Self { shape, reading } = self;
        let kind = &shape.kind;
        match kind {
            Kind::Message(entry) if shape.is_map => {
                json.deserialize_map(Entries { entry, reading }).map(|map| Some(Value::Map(map)))
            }
            _ if shape.is_list => {
                json.deserialize_seq(Items { kind, reading }).map(|list| Some(Value::List(list)))
            }
            _ => Of { kind, reading }.deserialize(json).map(Some),
        }
    }
}

struct Items<'a, 'r> {
    kind: &'a Kind,
    reading: &'a Reading<'r>,
}

impl<'de: 'r, 'r> Visitor<'de> for Items<'_, 'r> {
    type Value = Vec<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Value>, A::Error> {
        let Self { kind, reading } = self;
        let mut list = Vec::new();
        while let Some(item) = reading.at_index(list.len(), items.next_element_seed(Of { kind, reading }))? {
            list.push(item);
        }
        Ok(list)
    }
}

struct Entries<'a, 'r> {
    entry: &'a MessageDescriptor,
    reading: &'a Reading<'r>,
}

impl<'de: 'r, 'r> Visitor<'de> for Entries<'_, 'r> {
    type Value = HashMap<MapKey, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object (a map)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Self { entry, reading } = self;
        let (key_kind, kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
        let mut map = HashMap::new();
        while let Some(text) = entries.next_key::<String>()? {
            let key = reading.at(&text, scalar::key(&key_kind, &text).map_err(A::Error::custom))?;
            let value = reading.at(&text, entries.next_value_seed(Of { kind: &kind, reading }))?;
            if map.insert(key, value).is_some() {
                return reading.at(&text, Err(A::Error::custom("the key is there twice")));
            }
        }
        Ok(map)
    }
}

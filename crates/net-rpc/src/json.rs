//! JSON as Go reads it: values without a delimiter, absent fields are zero, names in any case.

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Number, Value};

use crate::gob::Zero;

/// Why JSON is not what is wanted. The text is Go's where Go has one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no JSON, or too deep.
    #[error("json: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A value of another type.
    #[error("json: {0}")]
    Type(String),
    /// A request without parameters.
    #[error("jsonrpc: request body missing params")]
    NoParams,
    /// What is no object where a request or a response has to be.
    #[error("json: a message begins with a byte other than {{")]
    NotAnObject,
    /// A message over the limit of bytes.
    #[error("json: a message is over the limit of {0} bytes")]
    TooLong(usize),
    /// A response whose error is no text, or that has neither error nor result.
    #[error("invalid error {0}")]
    InvalidError(Value),
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Self::Type(text.to_string())
    }
}

/// Finds the end of an object, each byte looked at once however it is cut.
#[derive(Debug, Default)]
pub(crate) struct Scanner {
    at: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// How long the first object of `bytes` is, with the white space before it. `None`: more is needed,
    /// and `bytes` has to begin the same next time.
    pub(crate) fn end(&mut self, bytes: &[u8], limit: usize) -> Result<Option<usize>, Error> {
        while let Some(&byte) = bytes.get(self.at) {
            self.at += 1;
            if self.in_string {
                self.in_string = self.escaped || byte != b'"';
                self.escaped = !self.escaped && byte == b'\\';
                continue;
            }
            match byte {
                b'{' | b'[' if self.depth > 0 || byte == b'{' => self.depth += 1,
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth == 0 => return Err(Error::NotAnObject),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        let end = std::mem::take(self).at;
                        return if end > limit { Err(Error::TooLong(limit)) } else { Ok(Some(end)) };
                    }
                }
                b'"' => self.in_string = true,
                _ => {}
            }
        }
        if bytes.len() > limit { Err(Error::TooLong(limit)) } else { Ok(None) }
    }
}

/// The one parameter of a request. Go takes an empty array for zero, and ignores further ones.
pub(crate) fn params<T: DeserializeOwned>(params: Option<&RawValue>) -> Result<T, Error> {
    match serde_json::from_str(params.ok_or(Error::NoParams)?.get())? {
        Value::Array(params) => from_value(params.first().unwrap_or(&Value::Null)),
        other => Err(Error::Type(format!(
            "cannot unmarshal {} into Go value of type [1]interface {{}}",
            kind(&other)
        ))),
    }
}

pub(crate) fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    T::deserialize(Json { value, place: None })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[derive(Clone, Copy)]
struct Json<'de> {
    value: &'de Value,
    /// Struct and field, for the error.
    place: Option<(&'static str, &'static str)>,
}

impl Json<'_> {
    fn wrong<T>(self, wanted: &str) -> Result<T, Error> {
        let mut text = format!("cannot unmarshal {}", kind(self.value));
        if let (Value::Number(number), true) = (self.value, wanted.contains("int")) {
            text += &format!(" {number}");
        }
        text += &match self.place {
            Some((name, field)) => format!(" into Go struct field {name}.{field} of type {wanted}"),
            None => format!(" into Go value of type {wanted}"),
        };
        Err(Error::Type(text))
    }
}

macro_rules! scalars {
    ($($deserialize:ident => $visit:ident($take:expr), $wanted:literal;)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match ($take)(self.value) {
                Some(value) => visitor.$visit(value),
                None if self.value.is_null() => Zero::new().$deserialize(visitor),
                None => self.wrong($wanted),
            }
        }
    )*};
}

fn narrow<N: TryFrom<i64>>(value: &Value) -> Option<N> {
    value.as_i64().and_then(|value| N::try_from(value).ok())
}

impl<'de> Deserializer<'de> for Json<'de> {
    type Error = Error;

    scalars! {
        deserialize_bool => visit_bool(Value::as_bool), "bool";
        deserialize_i8 => visit_i8(narrow), "int8";
        deserialize_i16 => visit_i16(narrow), "int16";
        deserialize_i32 => visit_i32(narrow), "int32";
        deserialize_i64 => visit_i64(Value::as_i64), "int";
        deserialize_u8 => visit_u8(narrow), "uint8";
        deserialize_u16 => visit_u16(narrow), "uint16";
        deserialize_u32 => visit_u32(narrow), "uint32";
        deserialize_u64 => visit_u64(Value::as_u64), "uint";
        deserialize_f32 => visit_f64(Value::as_f64), "float32";
        deserialize_f64 => visit_f64(Value::as_f64), "float64";
        deserialize_str => visit_str(Value::as_str), "string";
        deserialize_string => visit_str(Value::as_str), "string";
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Number(number) => any_number(number, visitor),
            Value::String(text) => visitor.visit_borrowed_str(text),
            Value::Array(values) => visitor.visit_seq(Elements { values: values.iter() }),
            Value::Object(_) => self.deserialize_map(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Array(values) => visitor.visit_seq(Elements { values: values.iter() }),
            Value::Null => Zero::new().deserialize_seq(visitor),
            _ => self.wrong("[]"),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        if self.value.is_null() {
            Zero::new().deserialize_tuple(len, visitor)
        } else {
            self.deserialize_seq(visitor)
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(entries) => {
                visitor.visit_map(Entries { entries: entries.iter(), value: &Value::Null })
            }
            Value::Null => Zero::new().deserialize_map(visitor),
            _ => self.wrong("map"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.value {
            Value::Object(entries) => {
                visitor.visit_map(Fields { fields: fields.iter(), entries, value: None, place: (name, "") })
            }
            Value::Null => Zero::new().deserialize_struct(name, fields, visitor),
            _ => self.wrong(name),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf tuple_struct enum identifier ignored_any
    }
}

fn any_number<'de, V: Visitor<'de>>(number: &Number, visitor: V) -> Result<V::Value, Error> {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(value), ..) => visitor.visit_i64(value),
        (_, Some(value), _) => visitor.visit_u64(value),
        (.., value) => visitor.visit_f64(value.unwrap_or_default()),
    }
}

struct Elements<'de> {
    values: std::slice::Iter<'de, Value>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.values.next().map(|value| seed.deserialize(Json { value, place: None })).transpose()
    }
}

struct Entries<'de> {
    entries: serde_json::map::Iter<'de>,
    value: &'de Value,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = value;
        seed.deserialize(Key { text: key }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Json { value: self.value, place: None })
    }
}

/// A key of a map. One that is no text in Go is text in JSON.
struct Key<'de> {
    text: &'de str,
}

macro_rules! keys {
    ($($deserialize:ident => $visit:ident,)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.text.parse() {
                Ok(key) => visitor.$visit(key),
                Err(_) => Err(Error::Type(format!("cannot unmarshal key {:?}", self.text))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    keys! {
        deserialize_i8 => visit_i8,
        deserialize_i16 => visit_i16,
        deserialize_i32 => visit_i32,
        deserialize_i64 => visit_i64,
        deserialize_u8 => visit_u8,
        deserialize_u16 => visit_u16,
        deserialize_u32 => visit_u32,
        deserialize_u64 => visit_u64,
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_str(self.text)
    }

    serde::forward_to_deserialize_any! {
        bool i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct newtype_struct seq
        tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// Each field of the wanted struct: what the object has for it, or zero.
struct Fields<'de> {
    fields: std::slice::Iter<'static, &'static str>,
    entries: &'de serde_json::Map<String, Value>,
    value: Option<&'de Value>,
    place: (&'static str, &'static str),
}

impl<'de> MapAccess<'de> for Fields<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(&field) = self.fields.next() else { return Ok(None) };
        self.place.1 = field;
        // As Go does: the exact name first, and then any case.
        let in_any_case = || self.entries.iter().find(|(name, _)| name.eq_ignore_ascii_case(field));
        self.value = self.entries.get(field).or_else(|| in_any_case().map(|(_, value)| value));
        seed.deserialize(StrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value {
            Some(value) => seed.deserialize(Json { value, place: Some(self.place) }),
            None => seed.deserialize(Zero::new()),
        }
    }
}

//! Numbers, words, bytes and enums.

use std::fmt;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost_reflect::{EnumDescriptor, Kind, MapKey, Value};
use serde::de::{Error, Visitor};
use serde_json::Number;

use crate::Unknown;

/// Padding may be there or not.
const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_allow_trailing_bits(true)
    .with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);

/// A value of some kind that is neither message nor group.
pub(super) struct Scalar<'a>(pub(super) &'a Kind);

impl Scalar<'_> {
    fn integer<E: Error>(&self, number: i128) -> Result<Value, E> {
        fn fit<T: TryFrom<i128>>(number: i128) -> Option<T> {
            T::try_from(number).ok()
        }
        let value = match self.0 {
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => fit(number).map(Value::I32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => fit(number).map(Value::I64),
            Kind::Uint32 | Kind::Fixed32 => fit(number).map(Value::U32),
            Kind::Uint64 | Kind::Fixed64 => fit(number).map(Value::U64),
            Kind::Enum(_) => fit(number).map(Value::EnumNumber),
            Kind::Double | Kind::Float => return self.float(number as f64),
            _ => return Err(E::invalid_type(serde::de::Unexpected::Other("a number"), self)),
        };
        value.ok_or_else(|| E::custom(format!("{number} is out of range for {self}")))
    }

    fn float<E: Error>(&self, number: f64) -> Result<Value, E> {
        match self.0 {
            Kind::Double => Ok(Value::F64(number)),
            Kind::Float if number.is_finite() && !(number as f32).is_finite() => {
                Err(E::custom(format!("{number:e} is out of range for {self}")))
            }
            Kind::Float => Ok(Value::F32(number as f32)),
            _ if number.fract() != 0.0 => {
                Err(E::custom(format!("{number} is not a whole number, as {self} is")))
            }
            // What is larger saturates, and is out of every range.
            _ => self.integer(number as i128),
        }
    }

    /// In quotation marks.
    fn number<E: Error>(&self, text: &str) -> Result<Value, E> {
        match (self.0, text) {
            (Kind::Double | Kind::Float, "NaN") => return self.float(f64::NAN),
            (Kind::Double | Kind::Float, "Infinity") => return self.float(f64::INFINITY),
            (Kind::Double | Kind::Float, "-Infinity") => return self.float(f64::NEG_INFINITY),
            _ => {}
        }
        let wrong = || E::custom(format!("{text:?} is not {self}"));
        let number: Number = text.parse().map_err(|_| wrong())?;
        match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), ..) => self.integer(number.into()),
            (_, Some(number), _) => self.integer(number.into()),
            (.., Some(number)) => self.float(number),
            _ => Err(wrong()),
        }
    }
}

impl Visitor<'_> for Scalar<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Kind::Double => "a number (double)",
            Kind::Float => "a number (float)",
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "a whole number of 32 bits",
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => "a whole number of 64 bits",
            Kind::Uint32 | Kind::Fixed32 => "a whole number of 32 bits, not negative",
            Kind::Uint64 | Kind::Fixed64 => "a whole number of 64 bits, not negative",
            Kind::Bool => "true or false",
            Kind::String => "a string",
            Kind::Bytes => "a string in base64 (bytes)",
            Kind::Enum(desc) => return write!(f, "a name or a number of the enum {}", desc.full_name()),
            Kind::Message(_) => "an object",
        })
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        match self.0 {
            Kind::Bool => Ok(Value::Bool(value)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Bool(value), &self)),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match self.0 {
            Kind::Bool | Kind::String | Kind::Bytes => {
                Err(E::invalid_type(serde::de::Unexpected::Float(value), &self))
            }
            _ => self.float(value),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        match self.0 {
            Kind::String => Ok(Value::String(text.to_owned())),
            Kind::Bytes => bytes(text).map(|bytes| Value::Bytes(bytes.into())).map_err(E::custom),
            Kind::Enum(desc) => named(desc, text).map(Value::EnumNumber).map_err(E::custom),
            Kind::Bool => Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
            _ => self.number(text),
        }
    }

    /// The one value of the one enum that is `null`.
    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        match self.0 {
            Kind::Enum(desc) if desc.full_name() == "google.protobuf.NullValue" => Ok(Value::EnumNumber(0)),
            _ => Err(E::invalid_type(serde::de::Unexpected::Other("null"), &self)),
        }
    }
}

impl fmt::Display for Scalar<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.expecting(f)
    }
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let engine = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    engine.decode(text).map_err(|error| format!("this is not base64: {error}"))
}

fn named(desc: &EnumDescriptor, name: &str) -> Result<i32, Unknown> {
    let found = desc.get_value_by_name(name).map(|value| value.number());
    found
        .ok_or_else(|| Unknown::among("enum value", name, desc.values().map(|value| value.name().to_owned())))
}

/// The key of a map, which JSON has as a string whatever it is.
pub(super) fn key(kind: &Kind, text: &str) -> Result<MapKey, String> {
    let wrong = || format!("{text:?} is not {}, as the keys of this map are", Scalar(kind));
    match kind {
        Kind::String => Ok(MapKey::String(text.to_owned())),
        Kind::Bool => text.parse().map(MapKey::Bool).map_err(|_| wrong()),
        _ => {
            let value: Result<Value, serde::de::value::Error> = Scalar(kind).number(text);
            value.ok().and_then(Value::into_map_key).ok_or_else(wrong)
        }
    }
}

//! The well-known types, which have forms of their own in JSON.

use std::fmt;

use prost::Message as _;
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, Value};
use prost_types::{Duration, Timestamp};
use serde::de::{
    Deserialize as _, DeserializeSeed as _, Deserializer, Error, IgnoredAny, MapAccess, Visitor,
};
use serde_json::value::RawValue;

use super::read::{Fields, Of, Reading};

/// The bounds of the mapping: the years 1 to 9999, and some 10,000 years.
pub(super) const FIRST_SECOND: i64 = -62_135_596_800;
pub(super) const LAST_SECOND: i64 = 253_402_300_799;
pub(super) const LONGEST: i64 = 315_576_000_000;

/// Whether JSON has another form of it than an object of its fields.
pub(super) fn is_known(name: &str) -> bool {
    name.strip_prefix("google.protobuf.").is_some_and(|name| {
        matches!(name, "Any" | "Timestamp" | "Duration" | "FieldMask" | "Struct" | "ListValue" | "Value")
            || is_wrapper(name)
    })
}

/// Whether it stands for its one field.
pub(super) fn is_wrapper(name: &str) -> bool {
    matches!(
        name,
        "DoubleValue"
            | "FloatValue"
            | "Int64Value"
            | "UInt64Value"
            | "Int32Value"
            | "UInt32Value"
            | "BoolValue"
            | "StringValue"
            | "BytesValue"
    )
}

/// Reads a well-known type. What is none gets its JSON back.
pub(super) fn read<'de: 'r, 'r, D: Deserializer<'de>>(
    desc: &MessageDescriptor,
    reading: &Reading<'r>,
    json: D,
) -> Result<Result<DynamicMessage, D::Error>, D> {
    let Some(name) = desc.full_name().strip_prefix("google.protobuf.").filter(|_| is_known(desc.full_name()))
    else {
        return Err(json);
    };
    Ok(match name {
        "Any" => any(desc, reading, json),
        "Timestamp" => json
            .deserialize_str(Text("a time such as \"2026-01-31T10:20:30.5Z\"", timestamp))
            .map(|Timestamp { seconds, nanos }| filled(desc, [Value::I64(seconds), Value::I32(nanos)])),
        "Duration" => json
            .deserialize_str(Text("a duration such as \"1.5s\"", duration))
            .map(|Duration { seconds, nanos }| filled(desc, [Value::I64(seconds), Value::I32(nanos)])),
        "FieldMask" => json
            .deserialize_str(Text("names of fields such as \"user.displayName,photo\"", mask))
            .map(|paths| filled(desc, [Value::List(paths.into_iter().map(Value::String).collect())])),
        "Struct" | "ListValue" | "Value" => DynamicMessage::deserialize(desc.clone(), json),
        _ => match desc.get_field(1) {
            Some(field) => {
                Of { kind: &field.kind(), reading }.deserialize(json).map(|value| filled(desc, [value]))
            }
            None => return Err(json),
        },
    })
}

/// With values for its first fields.
fn filled<const N: usize>(desc: &MessageDescriptor, values: [Value; N]) -> DynamicMessage {
    let mut message = DynamicMessage::new(desc.clone());
    for (number, value) in (1..).zip(values) {
        message.set_field_by_number(number, value);
    }
    message
}

/// What a string says.
struct Text<T>(&'static str, fn(&str) -> Option<T>);

impl<T> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        self.1(text).ok_or_else(|| E::custom(format!("{text:?} is not {}", self.0)))
    }
}

/// RFC 3339, as strictly as the mapping has it.
fn timestamp(text: &str) -> Option<Timestamp> {
    let (date, rest) = text.split_once('T')?;
    let [year, month, day] = numbers(date, '-', [4, 2, 2])?;
    let (clock, zone) = rest.split_at(rest.find(['Z', '+', '-'])?);
    let (clock, fraction) =
        clock.split_once('.').map_or((clock, None), |(clock, fraction)| (clock, Some(fraction)));
    let [hour, minute, second] = numbers(clock, ':', [2, 2, 2])?;
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let months = days.get(..usize::try_from(month - 1).ok()?)?;
    let in_month = *days.get(months.len())?;
    if !(1..=in_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let offset = match zone {
        "Z" => 0,
        zone => {
            let [hours, minutes] = numbers(&zone[1..], ':', [2, 2])?;
            let offset = hours * 3600 + minutes * 60;
            if hours > 23 || minutes > 59 {
                return None;
            }
            if zone.starts_with('-') { -offset } else { offset }
        }
    };
    let before = year - 1;
    let days = before * 365 + before / 4 - before / 100 + before / 400 + months.iter().sum::<i64>() + day - 1;
    let seconds = FIRST_SECOND + days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    let nanos = fraction.map_or(Some(0), nanoseconds)?;
    (year > 0 && (FIRST_SECOND..=LAST_SECOND).contains(&seconds)).then_some(Timestamp { seconds, nanos })
}

/// Numbers of so many digits each.
fn numbers<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut found = [0; N];
    for (found, digits) in found.iter_mut().zip(digits) {
        let part =
            parts.next().filter(|part| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit()))?;
        *found = part.parse().ok()?;
    }
    parts.next().is_none().then_some(found)
}

/// The digits after the point.
fn nanoseconds(fraction: &str) -> Option<i32> {
    let fits = (1..=9).contains(&fraction.len()) && fraction.bytes().all(|byte| byte.is_ascii_digit());
    format!("{fraction:0<9}").parse().ok().filter(|_| fits)
}

fn duration(text: &str) -> Option<Duration> {
    let number = text.strip_suffix('s')?;
    let (sign, number) = number.strip_prefix('-').map_or((1, number), |number| (-1, number));
    let (whole, fraction) =
        number.split_once('.').map_or((number, None), |(whole, fraction)| (whole, Some(fraction)));
    let is_number = !whole.is_empty() && whole.bytes().all(|byte| byte.is_ascii_digit());
    let seconds: i64 = whole.parse().ok().filter(|seconds| is_number && *seconds <= LONGEST)?;
    let nanos = fraction.map_or(Some(0), nanoseconds)?;
    let is_within = seconds < LONGEST || nanos == 0;
    is_within.then_some(Duration { seconds: sign * seconds, nanos: sign as i32 * nanos })
}

/// Paths in lowerCamelCase, as the proto has them.
fn mask(text: &str) -> Option<Vec<String>> {
    text.split(',').filter(|path| !path.is_empty()).map(snake_case).collect()
}

fn snake_case(camel: &str) -> Option<String> {
    let mut snake = String::with_capacity(camel.len() + 4);
    for c in camel.chars() {
        match c {
            '_' => return None,
            c if c.is_ascii_uppercase() => snake.extend(['_', c.to_ascii_lowercase()]),
            c => snake.push(c),
        }
    }
    Some(snake)
}

/// An object with the name of its type in `@type`, which may come last.
fn any<'de: 'r, 'r, D: Deserializer<'de>>(
    desc: &MessageDescriptor,
    reading: &Reading<'r>,
    json: D,
) -> Result<DynamicMessage, D::Error> {
    let object = <&RawValue>::deserialize(json)?.get();
    let read = || -> serde_json::Result<DynamicMessage> {
        let url = reading.again(object, |json| json.deserialize_map(Type))?;
        let Some(url) = url else { return Ok(DynamicMessage::new(desc.clone())) };
        let name = url.rsplit_once('/').map(|(_, name)| name);
        let name =
            name.ok_or_else(|| Error::custom(format!("{url:?} has no / before the name of the type")))?;
        let inner = desc.parent_pool().get_message_by_name(name).ok_or_else(|| {
            Error::custom(format!(
                "the type {name} is unknown; it must be in the files that describe the service"
            ))
        })?;
        let message = reading.again(object, |json| match is_known(name) {
            true => json.deserialize_map(Wrapped { kind: &Kind::Message(inner), reading }),
            false => json.deserialize_map(Fields { desc: &inner, reading, skip: "@type" }),
        })?;
        Ok(filled(desc, [Value::String(url), Value::Bytes(message.encode_to_vec().into())]))
    };
    read().map_err(D::Error::custom)
}

/// The value of `@type`; none in an object without anything.
struct Type;

impl<'de> Visitor<'de> for Type {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"@type\" (google.protobuf.Any)")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut url = None;
        let mut is_empty = true;
        while let Some(key) = map.next_key::<String>()? {
            is_empty = false;
            match key.as_str() {
                "@type" if url.is_some() => return Err(A::Error::custom("\"@type\" is there twice")),
                "@type" => url = Some(map.next_value()?),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        match url {
            None if !is_empty => Err(A::Error::custom("there is no \"@type\" in this google.protobuf.Any")),
            url => Ok(url),
        }
    }
}

/// A well-known type in an `Any`: it is under `value`.
struct Wrapped<'a, 'r> {
    kind: &'a Kind,
    reading: &'a Reading<'r>,
}

impl<'de: 'r, 'r> Visitor<'de> for Wrapped<'_, 'r> {
    type Value = DynamicMessage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with \"@type\" and \"value\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<DynamicMessage, A::Error> {
        let Self { kind, reading } = self;
        let mut message = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "@type" => {
                    map.next_value::<IgnoredAny>()?;
                }
                "value" if message.is_none() => {
                    message = Some(reading.at("value", map.next_value_seed(Of { kind, reading }))?);
                }
                key => {
                    return Err(A::Error::custom(format!(
                        "{key:?} has no place beside \"@type\" and \"value\""
                    )));
                }
            }
        }
        match message {
            Some(Value::Message(message)) => Ok(message),
            _ => Err(A::Error::custom("there is no \"value\" in this google.protobuf.Any")),
        }
    }
}

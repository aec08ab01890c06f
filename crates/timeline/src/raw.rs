//! Messages of which nobody knows the descriptor: fields by their numbers, as the
//! encoding of protobuf has them.

use serde_json::{Map, Value, json};
use shared_process::is_unseen;

use crate::words::counted;

/// How deep messages are looked for in each other.
const DEPTH: usize = 8;

/// A field by its number.
#[derive(Debug, PartialEq)]
pub(crate) struct Field<'a> {
    number: u64,
    value: Raw<'a>,
}

#[derive(Debug, PartialEq)]
enum Raw<'a> {
    /// Of any integer type, or a truth value.
    Varint(u64),
    /// Of a type that has four bytes, or eight.
    Fixed(f64, u64),
    Text(&'a str),
    Message(Vec<Field<'a>>),
    Bytes(&'a [u8]),
}

/// The fields of a message. `None` when these bytes are none.
pub(crate) fn fields(bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    message(bytes, DEPTH)
}

fn message(mut bytes: &[u8], depth: usize) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let number = key >> 3;
        if number == 0 || number >= 1 << 29 {
            return None;
        }
        let value = match key & 7 {
            0 => Raw::Varint(varint(&mut bytes)?),
            1 => {
                let bits = u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?);
                Raw::Fixed(f64::from_bits(bits), bits)
            }
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                delimited(bytes.split_off(..length)?, depth)
            }
            5 => {
                let bits = u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?);
                Raw::Fixed(f64::from(f32::from_bits(bits)), u64::from(bits))
            }
            // Groups, which nothing has had for many years.
            _ => return None,
        };
        fields.push(Field { number, value });
    }
    Some(fields)
}

/// A text, a message or bytes: whichever it can be, in that order.
fn delimited(bytes: &[u8], depth: usize) -> Raw<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains(|c| is_unseen(c) && c != '\n') => return Raw::Text(text),
        _ => {}
    }
    let inner = depth.checked_sub(1).and_then(|depth| message(bytes, depth));
    inner.map_or(Raw::Bytes(bytes), Raw::Message)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// On one line: `1: 6  2: "hi"  3 {1: 7}`.
pub(crate) fn text(fields: &[Field<'_>]) -> String {
    let fields = fields.iter().map(|Field { number, value }| match value {
        Raw::Varint(value) => format!("{number}: {value}"),
        Raw::Fixed(float, _) if is_likely(*float) => format!("{number}: {float}"),
        Raw::Fixed(_, bits) => format!("{number}: {bits}"),
        Raw::Text(text) => format!("{number}: {}", Value::from(*text)),
        Raw::Message(fields) => format!("{number} {{{}}}", self::text(fields)),
        Raw::Bytes(bytes) => format!("{number}: {}", counted(bytes.len() as u64, "byte")),
    });
    fields.collect::<Vec<_>>().join("  ")
}

/// An object. A number that comes several times has an array.
pub(crate) fn json(fields: &[Field<'_>]) -> Value {
    let mut object = Map::new();
    for Field { number, value } in fields {
        let value = match value {
            Raw::Varint(value) => json!(value),
            Raw::Fixed(float, _) if is_likely(*float) => json!(float),
            Raw::Fixed(_, bits) => json!(bits),
            Raw::Text(text) => json!(text),
            Raw::Message(fields) => json(fields),
            Raw::Bytes(bytes) => json!({ "bytes": bytes.len() }),
        };
        match object.get_mut(&number.to_string()) {
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
            None => _ = object.insert(number.to_string(), value),
        }
    }
    Value::Object(object)
}

/// Whether somebody may well have meant this number, and not an integer.
fn is_likely(float: f64) -> bool {
    float == 0.0 || (1e-9..1e15).contains(&float.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_shown_by_their_numbers() {
        let bytes = b"\x08\x06\x12\x02hi\x1a\x02\x08\x07\x22\x02\xff\xfe\x29\0\0\0\0\0\0\xf8\x3f\x08\x07";
        let fields = fields(bytes).unwrap();
        assert_eq!(text(&fields), r#"1: 6  2: "hi"  3 {1: 7}  4: 2 bytes  5: 1.5  1: 7"#);
        let expected = r#"{"1":[6,7],"2":"hi","3":{"1":7},"4":{"bytes":2},"5":1.5}"#;
        assert_eq!(json(&fields).to_string(), expected);
    }

    #[test]
    fn what_is_no_message_is_not_taken_for_one() {
        for wrong in [&b"\xff\xff"[..], b"\x08", b"\x12\x05hi", b"\x00\x01", b"\x0b", b"\x29\0", b"no"] {
            assert_eq!(fields(wrong), None, "{wrong:?}");
        }
        assert_eq!(fields(b""), Some(Vec::new()));
        // Nested far deeper than anybody looks.
        let mut deep = b"\x08\x01".to_vec();
        for _ in 0..60 {
            deep = [&[0x0a, deep.len() as u8][..], &deep].concat();
        }
        assert!(text(&fields(&deep).unwrap()).ends_with(" bytes}}}}}}}}"));
    }
}

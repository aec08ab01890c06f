//! From values to messages.

use std::collections::HashMap;

use serde::ser::{
    Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple, SerializeTupleStruct,
    Serializer,
};

use super::wire::{put_bytes, put_int, put_uint};
use super::{Error, Type};

/// One direction of a connection: the types that it has described so far.
#[derive(Debug, Default)]
pub struct Encoder {
    sent: HashMap<Type, i64>,
}

impl Encoder {
    /// Appends the messages of a value: the types that are new, then the value, each with its length.
    ///
    /// # Errors
    /// The value is not what its type says.
    pub fn encode<T: Serialize + ?Sized>(
        &mut self,
        ty: &Type,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let value = encode_value(ty, value)?;
        self.put(ty, &value, out);
        Ok(())
    }

    /// As [`encode`](Self::encode), for what [`encode_value`] has returned for a value of this type.
    pub fn put(&mut self, ty: &Type, value: &[u8], out: &mut Vec<u8>) {
        let mut start = Vec::with_capacity(4);
        put_int(&mut start, self.describe(ty, out));
        put_uint(out, (start.len() + value.len()) as u64);
        out.extend_from_slice(&start);
        out.extend_from_slice(value);
    }

    /// The id of a type. Appends its descriptor if it is new, after those of the types inside it.
    fn describe(&mut self, ty: &Type, out: &mut Vec<u8>) -> i64 {
        if let Some(id) = ty.basic().or_else(|| self.sent.get(ty).copied()) {
            return id;
        }
        let (mut kind, mut name, mut rest) = (0, "", Vec::new());
        match ty {
            Type::Array(elem, len) => {
                kind = 1;
                let elem = self.describe(elem, out);
                put_number(&mut rest, elem);
                if *len > 0 {
                    put_number(&mut rest, i64::try_from(*len).unwrap_or(i64::MAX));
                }
            }
            Type::Slice(elem) => {
                kind = 2;
                let elem = self.describe(elem, out);
                put_number(&mut rest, elem);
            }
            Type::Map(of) => {
                kind = 4;
                let (key, elem) = (self.describe(&of.0, out), self.describe(&of.1, out));
                put_number(&mut rest, key);
                put_number(&mut rest, elem);
            }
            Type::Struct { name: of, fields } => {
                (kind, name) = (3, of);
                let ids: Vec<i64> = fields.iter().map(|(_, ty)| self.describe(ty, out)).collect();
                if !fields.is_empty() {
                    rest.push(1);
                    put_uint(&mut rest, fields.len() as u64);
                }
                for ((name, _), id) in fields.iter().zip(ids) {
                    rest.push(1);
                    put_bytes(&mut rest, name.as_bytes());
                    put_number(&mut rest, id);
                    rest.push(0);
                }
            }
            // These have an id of their own.
            Type::Bool | Type::Int | Type::Uint | Type::Byte | Type::Float | Type::String => {}
        }
        let id = FIRST_OF_OURS + i64::try_from(self.sent.len()).unwrap_or(i64::MAX - FIRST_OF_OURS);
        let mut message = Vec::new();
        put_int(&mut message, -id);
        // The form is a struct, which begins with a struct of name and id.
        message.extend([kind, 1]);
        if name.is_empty() {
            message.push(2);
        } else {
            message.push(1);
            put_bytes(&mut message, name.as_bytes());
            message.push(1);
        }
        put_int(&mut message, id);
        message.push(0);
        message.extend(rest);
        message.extend([0, 0]);
        put_bytes(out, &message);
        self.sent.insert(ty.clone(), id);
        id
    }
}

/// As Go numbers its own.
const FIRST_OF_OURS: i64 = 65;

/// The next field of a descriptor.
fn put_number(out: &mut Vec<u8>, value: i64) {
    out.push(1);
    put_int(out, value);
}

/// The bytes of a value without its type and length, which [`Encoder::put`] adds.
///
/// # Errors
/// The value is not what its type says.
pub fn encode_value<T: Serialize + ?Sized>(ty: &Type, value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    if !matches!(ty, Type::Struct { .. }) {
        out.push(0);
    }
    put_element(ty, false, value, &mut out)?;
    Ok(out)
}

/// A value that cannot be left out, as a field can.
fn put_element<T: Serialize + ?Sized>(
    ty: &Type,
    raw: bool,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let before = out.len();
    value.serialize(Encode { ty, raw, out })?;
    if out.len() == before { Err(Error::Unsupported("None that is not a field")) } else { Ok(()) }
}

/// Appends one value. Returns whether it is zero, for then a struct leaves the field out.
struct Encode<'a> {
    ty: &'a Type,
    /// A byte of a `[]byte`, where it is no number.
    raw: bool,
    out: &'a mut Vec<u8>,
}

impl<'a> Encode<'a> {
    fn mismatch<T>(&self, value: &str) -> Result<T, Error> {
        Err(Error::Mismatch(format!("type mismatch in encoder: want {}; got {value}", self.ty)))
    }

    fn int(self, value: i64) -> Result<bool, Error> {
        if *self.ty != Type::Int {
            return self.mismatch("int");
        }
        put_int(self.out, value);
        Ok(value == 0)
    }

    fn uint(self, value: u64) -> Result<bool, Error> {
        if *self.ty != Type::Uint {
            return self.mismatch("uint");
        }
        put_uint(self.out, value);
        Ok(value == 0)
    }

    fn elements(self, types: [&'a Type; 2], len: usize) -> Elements<'a> {
        put_uint(self.out, len as u64);
        let raw = self.ty.basic().is_some();
        Elements { types, raw, left: len, empty: len == 0, out: self.out }
    }
}

macro_rules! integers {
    ($($serialize:ident($from:ty) => $put:ident;)*) => {$(
        fn $serialize(self, value: $from) -> Result<bool, Error> {
            self.$put(value.into())
        }
    )*};
}

type Never = Impossible<bool, Error>;

impl<'a> Serializer for Encode<'a> {
    type Ok = bool;
    type Error = Error;
    type SerializeSeq = Elements<'a>;
    type SerializeTuple = Elements<'a>;
    type SerializeTupleStruct = Elements<'a>;
    type SerializeTupleVariant = Never;
    type SerializeMap = Elements<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Never;

    fn serialize_bool(self, value: bool) -> Result<bool, Error> {
        if *self.ty != Type::Bool {
            return self.mismatch("bool");
        }
        self.out.push(value.into());
        Ok(!value)
    }

    integers! {
        serialize_i8(i8) => int;
        serialize_i16(i16) => int;
        serialize_i32(i32) => int;
        serialize_i64(i64) => int;
        serialize_u16(u16) => uint;
        serialize_u32(u32) => uint;
        serialize_u64(u64) => uint;
    }

    fn serialize_u8(self, value: u8) -> Result<bool, Error> {
        if *self.ty != Type::Byte {
            return self.mismatch("uint8");
        }
        if self.raw {
            self.out.push(value)
        } else {
            put_uint(self.out, value.into())
        }
        Ok(value == 0)
    }

    fn serialize_f32(self, value: f32) -> Result<bool, Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<bool, Error> {
        if *self.ty != Type::Float {
            return self.mismatch("float");
        }
        put_uint(self.out, value.to_bits().swap_bytes());
        // -0.0 too, as in Go.
        Ok(value == 0.0)
    }

    fn serialize_char(self, _: char) -> Result<bool, Error> {
        self.mismatch("a char")
    }

    fn serialize_str(self, value: &str) -> Result<bool, Error> {
        if *self.ty != Type::String {
            return self.mismatch("string");
        }
        put_bytes(self.out, value.as_bytes());
        Ok(value.is_empty())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<bool, Error> {
        if !matches!(self.ty, Type::Slice(elem) if **elem == Type::Byte) {
            return self.mismatch("[]byte");
        }
        put_bytes(self.out, value);
        Ok(value.is_empty())
    }

    fn serialize_none(self) -> Result<bool, Error> {
        Ok(true)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<bool, Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<bool, Error> {
        self.serialize_struct("", 0)?.end()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<bool, Error> {
        self.serialize_unit()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<bool, Error> {
        value.serialize(self)
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<Elements<'a>, Error> {
        match (self.ty, len) {
            (Type::Slice(elem), Some(len)) => Ok(self.elements([elem, elem], len)),
            _ => self.mismatch("a slice"),
        }
    }

    fn serialize_tuple(self, len: usize) -> Result<Elements<'a>, Error> {
        match self.ty {
            Type::Array(elem, size) if *size == len => Ok(self.elements([elem, elem], len)),
            _ => self.mismatch("an array"),
        }
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Elements<'a>, Error> {
        self.serialize_tuple(len)
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Elements<'a>, Error> {
        match (self.ty, len) {
            (Type::Map(of), Some(len)) => {
                let mut elements = self.elements([&of.0, &of.1], len);
                elements.left *= 2;
                Ok(elements)
            }
            _ => self.mismatch("a map"),
        }
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Error> {
        match self.ty {
            Type::Struct { fields, .. } => Ok(Fields { fields, sent: 0, out: self.out }),
            _ => self.mismatch("a struct"),
        }
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<bool, Error> {
        self.mismatch("an enum")
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<bool, Error> {
        self.mismatch("an enum")
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, Error> {
        self.mismatch("an enum")
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Never, Error> {
        self.mismatch("an enum")
    }
}

/// The elements of a slice or an array, or the keys and elements of a map in turn.
struct Elements<'a> {
    types: [&'a Type; 2],
    raw: bool,
    left: usize,
    empty: bool,
    out: &'a mut Vec<u8>,
}

impl Elements<'_> {
    fn put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.left = self.left.checked_sub(1).ok_or(MISCOUNTED)?;
        // The last of a map's pairs is an element: an odd count left means that a key was put.
        put_element(self.types[1 - self.left % 2], self.raw, value, self.out)
    }
}

const MISCOUNTED: Error = Error::Unsupported("a sequence with a wrong length");

macro_rules! elements {
    ($($of:ident, $put:ident, $leave_out_if_empty:literal;)*) => {$(
        impl $of for Elements<'_> {
            type Ok = bool;
            type Error = Error;

            fn $put<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                self.put(value)
            }

            fn end(self) -> Result<bool, Error> {
                if self.left > 0 { Err(MISCOUNTED) } else { Ok(self.empty && $leave_out_if_empty) }
            }
        }
    )*};
}

// An array is sent also if all of it is zero, and so is a map.
elements! {
    SerializeSeq, serialize_element, true;
    SerializeTuple, serialize_element, false;
    SerializeTupleStruct, serialize_field, false;
}

impl SerializeMap for Elements<'_> {
    type Ok = bool;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.put(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.put(value)
    }

    fn end(self) -> Result<bool, Error> {
        SerializeTuple::end(self)
    }
}

struct Fields<'a> {
    fields: &'a [(String, Type)],
    /// How many fields are behind: 1 more than the number of the last one that was put.
    sent: usize,
    out: &'a mut Vec<u8>,
}

impl SerializeStruct for Fields<'_> {
    type Ok = bool;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        let place = self.fields.iter().position(|(name, _)| name == key);
        let Some(number) = place.filter(|number| *number >= self.sent) else {
            return Err(Error::Mismatch(format!("type mismatch in encoder: no field {key} at its place")));
        };
        let before = self.out.len();
        put_uint(self.out, (number + 1 - self.sent) as u64);
        let ty = &self.fields[number].1;
        if value.serialize(Encode { ty, raw: false, out: self.out })? {
            self.out.truncate(before);
        } else {
            self.sent = number + 1;
        }
        Ok(())
    }

    /// A struct is sent also if all of it is zero.
    fn end(self) -> Result<bool, Error> {
        self.out.push(0);
        Ok(false)
    }
}

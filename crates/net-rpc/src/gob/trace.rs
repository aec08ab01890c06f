//! The gob type of a Rust type.
//!
//! gob wants a type described before its first value, also when a slice is empty. Serde has no
//! descriptions, but a type that is deserialized asks for what it is made of: here one value is made
//! of zeros, with one element in each slice and map, and what it asks for is the type.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::Error;
use super::wire::id;

/// A type, with the types inside it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// `bool`
    Bool,
    /// All signed integers.
    Int,
    /// Unsigned integers but `u8`.
    Uint,
    /// `u8`. It is a uint, but a slice of it is gob's `[]byte`.
    Byte,
    /// `f32` and `f64`
    Float,
    /// Text. Go's may be other than UTF-8; that is an error here.
    String,
    /// Any number of elements.
    Slice(Box<Type>),
    /// A fixed number of elements.
    Array(Box<Type>, usize),
    /// Key and element.
    Map(Box<(Type, Type)>),
    /// Named fields in their order.
    Struct {
        /// The name of the type. Go shows it in errors and ignores it otherwise.
        name: String,
        /// Name and type of each field.
        fields: Vec<(String, Type)>,
    },
}

impl Type {
    /// The type that gob sends for `T`.
    ///
    /// # Errors
    /// gob has no such type, or `T` refuses a value of zeros.
    pub fn of<T: DeserializeOwned>() -> Result<Self, Error> {
        let mut found = None;
        T::deserialize(Trace { found: &mut found, depth: 0 })?;
        found.ok_or(Error::Unsupported("a type that asks for nothing"))
    }

    /// The id of a type that needs no descriptor.
    pub(crate) fn basic(&self) -> Option<i64> {
        Some(match self {
            Self::Bool => id::BOOL,
            Self::Int => id::INT,
            Self::Uint | Self::Byte => id::UINT,
            Self::Float => id::FLOAT,
            Self::String => id::STRING,
            Self::Slice(elem) if **elem == Self::Byte => id::BYTES,
            _ => return None,
        })
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Byte => f.write_str("uint8"),
            Self::Float => f.write_str("float64"),
            Self::String => f.write_str("string"),
            Self::Slice(elem) => write!(f, "[]{elem}"),
            Self::Array(elem, len) => write!(f, "[{len}]{elem}"),
            Self::Map(of) => write!(f, "map[{}]{}", of.0, of.1),
            Self::Struct { name, .. } => f.write_str(name),
        }
    }
}

struct Trace<'t> {
    found: &'t mut Option<Type>,
    depth: usize,
}

macro_rules! trace {
    ($($deserialize:ident => $kind:ident, $visit:ident($value:expr);)*) => {$(
        fn $deserialize<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            *self.found = Some(Type::$kind);
            visitor.$visit($value)
        }
    )*};
}

impl<'de> Deserializer<'de> for Trace<'_> {
    type Error = Error;

    trace! {
        deserialize_bool => Bool, visit_bool(false);
        deserialize_i8 => Int, visit_i8(0);
        deserialize_i16 => Int, visit_i16(0);
        deserialize_i32 => Int, visit_i32(0);
        deserialize_i64 => Int, visit_i64(0);
        deserialize_u8 => Byte, visit_u8(0);
        deserialize_u16 => Uint, visit_u16(0);
        deserialize_u32 => Uint, visit_u32(0);
        deserialize_u64 => Uint, visit_u64(0);
        deserialize_f32 => Float, visit_f32(0.0);
        deserialize_f64 => Float, visit_f64(0.0);
        deserialize_str => String, visit_borrowed_str("");
        deserialize_string => String, visit_borrowed_str("");
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        *self.found = Some(Type::Slice(Box::new(Type::Byte)));
        visitor.visit_borrowed_bytes(&[])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit_struct("", visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        *self.found = Some(Type::Struct { name: name.to_owned(), fields: Vec::new() });
        visitor.visit_unit()
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut inside = Inside::new(&self, &[], 1)?;
        let value = visitor.visit_seq(&mut inside)?;
        *self.found = Some(Type::Slice(Box::new(inside.only()?)));
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Error> {
        let mut inside = Inside::new(&self, &[], len)?;
        let value = visitor.visit_seq(&mut inside)?;
        *self.found = Some(Type::Array(Box::new(inside.only()?), len));
        Ok(value)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let mut inside = Inside::new(&self, &[""], 1)?;
        inside.of_map = true;
        let value = visitor.visit_map(&mut inside)?;
        let mut types = inside.types.into_iter();
        let (Some(key), Some(elem)) = (types.next(), types.next()) else {
            return Err(Error::Unsupported("a map without types"));
        };
        *self.found = Some(Type::Map(Box::new((key, elem))));
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let mut inside = Inside::new(&self, fields, 0)?;
        let value = visitor.visit_map(&mut inside)?;
        let fields = fields.iter().map(|name| (*name).to_owned()).zip(inside.types).collect();
        *self.found = Some(Type::Struct { name: name.to_owned(), fields });
        Ok(value)
    }

    fn deserialize_char<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::Unsupported("a char"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Error> {
        Err(Error::Unsupported("an enum"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(Error::Unsupported("a type that takes anything"))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_any(visitor)
    }
}

/// What a value asks for inside.
struct Inside {
    types: Vec<Type>,
    fields: std::slice::Iter<'static, &'static str>,
    elements: usize,
    depth: usize,
    of_map: bool,
}

impl Inside {
    fn new(outer: &Trace<'_>, fields: &'static [&'static str], elements: usize) -> Result<Self, Error> {
        // A type that contains itself has no end.
        if outer.depth == 64 {
            return Err(Error::Unsupported("a recursive type"));
        }
        Ok(Self { types: Vec::new(), fields: fields.iter(), elements, depth: outer.depth + 1, of_map: false })
    }

    fn ask<'de, S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Error> {
        let mut found = None;
        let value = seed.deserialize(Trace { found: &mut found, depth: self.depth })?;
        self.types.push(found.ok_or(Error::Unsupported("a type that asks for nothing"))?);
        Ok(value)
    }

    /// The type that all elements have.
    fn only(mut self) -> Result<Type, Error> {
        let first = self.types.pop().ok_or(Error::Unsupported("a sequence that asks for no element"))?;
        if self.types.iter().all(|other| *other == first) {
            Ok(first)
        } else {
            Err(Error::Unsupported("a tuple of several types"))
        }
    }
}

impl<'de> SeqAccess<'de> for &mut Inside {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.elements.checked_sub(1) else { return Ok(None) };
        self.elements = left;
        self.ask(seed).map(Some)
    }
}

impl<'de> MapAccess<'de> for &mut Inside {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(name) = self.fields.next() else { return Ok(None) };
        if self.of_map { self.ask(seed) } else { seed.deserialize(StrDeserializer::new(name)) }.map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        self.ask(seed)
    }
}

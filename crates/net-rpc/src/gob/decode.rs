//! From messages to values.

use std::sync::Arc;

use serde::de::value::{BorrowedStrDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::table::{OUT_OF_BOUNDS, Table, Wire, below, field};
use super::wire::{Input, id};
use super::{Error, Limits, Type, Zero};

/// One direction of a connection: the types that were described so far.
#[derive(Debug)]
pub struct Decoder {
    table: Table,
}

impl Decoder {
    /// A decoder that knows no types yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { table: Table::new(limits) }
    }

    /// What this decoder takes.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.table.limits
    }

    /// Takes a message, without its length. `None`: it described a type, and the value is still to come.
    ///
    /// # Errors
    /// The message describes no type, or describes it anew, or is over a limit.
    pub fn message<'a>(&'a mut self, message: &'a [u8]) -> Result<Option<Value<'a>>, Error> {
        below(message.len(), self.table.limits.message, "bytes of a message")?;
        let mut input = Input(message);
        let id = input.int()?;
        if id >= 0 {
            return Ok(Some(Value { table: &mut self.table, id, input }));
        }
        self.table.define(id.checked_neg().ok_or(OUT_OF_BOUNDS)?, &mut input)?;
        if input.0.is_empty() { Ok(None) } else { Err(Error::Corrupt("extra data in buffer")) }
    }
}

/// A value that is still gob.
#[derive(Debug)]
pub struct Value<'a> {
    table: &'a mut Table,
    id: i64,
    input: Input<'a>,
}

impl Value<'_> {
    /// The value as a `T`, whose type is `wanted` ([`Type::of`]).
    ///
    /// # Errors
    /// The type on the wire is another one, the bytes do not fit their type, or `T` refuses the value.
    pub fn decode<T: DeserializeOwned>(mut self, wanted: &Type) -> Result<T, Error> {
        self.table.check(wanted, self.id)?;
        self.start()?;
        let mut state = State { table: self.table, input: self.input, depth: 0 };
        let value = T::deserialize(Decode { id: self.id, state: &mut state })?;
        state.end()?;
        Ok(value)
    }

    /// Reads the value and forgets it. The types that it brought along stay known.
    ///
    /// # Errors
    /// The bytes do not fit their type.
    pub fn skip(mut self) -> Result<(), Error> {
        self.start()?;
        self.table.skip(self.id, &mut self.input, 0)?;
        if self.input.0.is_empty() { Ok(()) } else { Err(EXTRA) }
    }

    /// A value that is no struct has a zero before it.
    fn start(&mut self) -> Result<(), Error> {
        let is_struct = self.id >= id::FIRST && matches!(*self.table.get(self.id)?, Wire::Struct { .. });
        if !is_struct && self.input.uint()? != 0 {
            return Err(Error::Corrupt("non-zero delta for singleton"));
        }
        Ok(())
    }
}

const EXTRA: Error = Error::Corrupt("a value is longer than its type");

struct State<'s, 'de> {
    table: &'s mut Table,
    input: Input<'de>,
    depth: usize,
}

impl State<'_, '_> {
    fn end(&self) -> Result<(), Error> {
        if self.input.0.is_empty() { Ok(()) } else { Err(EXTRA) }
    }

    fn skip(&mut self, id: i64) -> Result<(), Error> {
        self.table.skip(id, &mut self.input, self.depth)
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        below(self.depth, self.table.limits.depth, "values inside values")
    }
}

/// Deserializes the value of the type `id` that comes next.
struct Decode<'s, 't, 'de> {
    id: i64,
    state: &'s mut State<'t, 'de>,
}

impl<'de> Decode<'_, '_, 'de> {
    /// A value with values inside.
    fn compound<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        let Self { id, state } = self;
        let wire = state.table.get(id)?;
        state.enter()?;
        let value = match &*wire {
            Wire::Opaque => return Err(Error::Unsupported("a type with a Go marshaller of its own")),
            Wire::Slice { elem } => {
                let left = state.input.count()?;
                elements(visitor, Elements { elem: *elem, left, state })?
            }
            Wire::Array { elem, len } => {
                let left = state.input.count()?;
                if left != *len {
                    return Err(Error::Corrupt("an array has another length than its type"));
                }
                elements(visitor, Elements { elem: *elem, left, state })?
            }
            Wire::Map { key, elem } => {
                let left = state.input.count()?;
                let mut entries = Entries { key: *key, elem: *elem, left, state };
                let value = visitor.visit_map(&mut entries)?;
                if entries.left > 0 {
                    return Err(EXTRA);
                }
                value
            }
            Wire::Struct { .. } => {
                let mut inside = Fields {
                    wire: Arc::clone(&wire),
                    wanted: fields,
                    seen: vec![false; fields.len()],
                    next: 0,
                    value: None,
                    at_end: false,
                    state,
                };
                let value = visitor.visit_map(&mut inside)?;
                if !inside.at_end {
                    return Err(EXTRA);
                }
                value
            }
        };
        state.depth -= 1;
        Ok(value)
    }
}

fn elements<'de, V: Visitor<'de>>(
    visitor: V,
    mut elements: Elements<'_, '_, 'de>,
) -> Result<V::Value, Error> {
    let value = visitor.visit_seq(&mut elements)?;
    if elements.left > 0 { Err(EXTRA) } else { Ok(value) }
}

impl<'de> Deserializer<'de> for Decode<'_, '_, 'de> {
    type Error = Error;

    /// What is on the wire decides. [`Table::check`] has compared it with the wanted type.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let input = &mut self.state.input;
        match self.id {
            id::BOOL => visitor.visit_bool(input.uint()? != 0),
            id::INT => visitor.visit_i64(input.int()?),
            id::UINT => visitor.visit_u64(input.uint()?),
            id::FLOAT => visitor.visit_f64(input.float()?),
            id::BYTES => visitor.visit_borrowed_bytes(input.bytes()?),
            id::STRING => visitor.visit_borrowed_str(input.str()?),
            id::COMPLEX => Err(Error::Unsupported("a complex number")),
            id::INTERFACE => Err(Error::Unsupported("an interface value")),
            _ => self.compound(&[], visitor),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.id == id::BYTES {
            let bytes = self.state.input.bytes()?;
            return visitor.visit_seq(SeqDeserializer::new(bytes.iter().copied()));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.compound(fields, visitor)
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
        self.deserialize_ignored_any(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.deserialize_ignored_any(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.state.skip(self.id)?;
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf tuple
        tuple_struct map enum identifier
    }
}

struct Elements<'s, 't, 'de> {
    elem: i64,
    left: usize,
    state: &'s mut State<'t, 'de>,
}

impl<'de> SeqAccess<'de> for &mut Elements<'_, '_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Decode { id: self.elem, state: self.state }).map(Some)
    }

    /// Never more than the bytes that are left, and serde reserves no more than 1 MiB for it.
    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

struct Entries<'s, 't, 'de> {
    key: i64,
    elem: i64,
    left: usize,
    state: &'s mut State<'t, 'de>,
}

impl<'de> MapAccess<'de> for &mut Entries<'_, '_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(Decode { id: self.key, state: self.state }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Decode { id: self.elem, state: self.state })
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

/// The fields that the message has and the type wants, and then zeros for those that it lacks.
struct Fields<'s, 't, 'de> {
    wire: Arc<Wire>,
    wanted: &'static [&'static str],
    seen: Vec<bool>,
    next: usize,
    /// The type of the value that comes next. `None`: a zero.
    value: Option<i64>,
    at_end: bool,
    state: &'s mut State<'t, 'de>,
}

impl<'de> MapAccess<'de> for &mut Fields<'_, '_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Wire::Struct { fields, .. } = &*self.wire else { return Ok(None) };
        while !self.at_end {
            let Some(number) = field(&mut self.state.input, &mut self.next)? else {
                self.at_end = true;
                break;
            };
            let (name, id) = fields.get(number).ok_or(OUT_OF_BOUNDS)?;
            if let Some(wanted) = self.wanted.iter().position(|wanted| wanted == name) {
                self.seen[wanted] = true;
                self.value = Some(*id);
                return seed.deserialize(StrDeserializer::new(name)).map(Some);
            }
            self.state.skip(*id)?;
        }
        let Some(missing) = self.seen.iter().position(|seen| !seen) else { return Ok(None) };
        self.seen[missing] = true;
        self.value = None;
        seed.deserialize(BorrowedStrDeserializer::new(self.wanted[missing])).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        match self.value {
            Some(id) => seed.deserialize(Decode { id, state: self.state }),
            None => seed.deserialize(Zero::new()),
        }
    }
}

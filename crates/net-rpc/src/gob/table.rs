//! The types that the other end has described, and how to skip their values.

use std::collections::HashMap;
use std::sync::Arc;

use super::wire::{Input, id};
use super::{Error, Limits, Type};

/// A type, as a descriptor defines it. Types inside are ids.
#[derive(Debug)]
pub(crate) enum Wire {
    Array {
        elem: i64,
        len: usize,
    },
    Slice {
        elem: i64,
    },
    Struct {
        name: String,
        fields: Vec<(String, i64)>,
    },
    Map {
        key: i64,
        elem: i64,
    },
    /// Go's type has a marshaller of its own: the value is bytes.
    Opaque,
}

/// All types of a connection.
#[derive(Debug)]
pub(crate) struct Table {
    types: HashMap<i64, Arc<Wire>>,
    bytes: usize,
    pub(crate) limits: Limits,
}

impl Table {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { types: HashMap::new(), bytes: 0, limits }
    }

    pub(crate) fn get(&self, id: i64) -> Result<Arc<Wire>, Error> {
        self.types.get(&id).cloned().ok_or(Error::UnknownType(id))
    }

    /// Reads a descriptor and keeps it.
    pub(crate) fn define(&mut self, id: i64, input: &mut Input<'_>) -> Result<(), Error> {
        if id < id::FIRST || self.types.contains_key(&id) {
            return Err(Error::Corrupt("duplicate type received"));
        }
        below(self.types.len(), self.limits.types, "types")?;
        let before = input.0.len();
        let wire = descriptor(input, &self.limits)?;
        self.bytes += before - input.0.len();
        below(self.bytes, self.limits.descriptors, "bytes of type descriptors")?;
        self.types.insert(id, Arc::new(wire));
        Ok(())
    }

    /// Whether a value of the type `id` fits `wanted`. Errors are in Go's words.
    pub(crate) fn check(&self, wanted: &Type, id: i64) -> Result<(), Error> {
        if let Type::Struct { name, fields } = wanted {
            let Some(Wire::Struct { fields: sent, .. }) = self.types.get(&id).map(AsRef::as_ref) else {
                let text = format!("type mismatch in decoder: want struct type {name}; got non-struct");
                return Err(Error::Mismatch(text));
            };
            let common = |(name, _): &&(String, i64)| fields.iter().any(|field| field.0 == *name);
            if !fields.is_empty() && !sent.is_empty() && sent.iter().find(common).is_none() {
                let text = format!("type mismatch: no fields matched compiling decoder for {name}");
                return Err(Error::Mismatch(text));
            }
            self.check_fields(fields, id)
        } else if self.fits(wanted, id)? {
            Ok(())
        } else {
            let text =
                format!("decoding into local type *{wanted}, received remote type {}", self.name(id, 0));
            Err(Error::Mismatch(text))
        }
    }

    fn check_fields(&self, fields: &[(String, Type)], id: i64) -> Result<(), Error> {
        let Some(Wire::Struct { name, fields: sent }) = self.types.get(&id).map(AsRef::as_ref) else {
            return Err(Error::Mismatch("type mismatch in decoder: want struct type; got non-struct".into()));
        };
        for (field, id) in sent {
            let Some((_, wanted)) = fields.iter().find(|(name, _)| name == field) else { continue };
            if !self.fits(wanted, *id)? {
                let text = format!("wrong type ({wanted}) for received field {name}.{field}");
                return Err(Error::Mismatch(text));
            }
        }
        Ok(())
    }

    /// As deep as the wanted type, whatever the descriptors say.
    fn fits(&self, wanted: &Type, id: i64) -> Result<bool, Error> {
        let wire = self.types.get(&id).map(AsRef::as_ref);
        Ok(match (wanted, wire) {
            (Type::Struct { fields, .. }, _) => self.check_fields(fields, id).map(|()| true)?,
            (Type::Slice(wanted), Some(Wire::Slice { elem })) => self.fits(wanted, *elem)?,
            (Type::Array(wanted, size), Some(Wire::Array { elem, len })) => {
                size == len && self.fits(wanted, *elem)?
            }
            (Type::Map(of), Some(Wire::Map { key, elem })) => {
                self.fits(&of.0, *key)? && self.fits(&of.1, *elem)?
            }
            (wanted, None) => wanted.basic() == Some(id),
            _ => false,
        })
    }

    fn name(&self, id: i64, depth: usize) -> String {
        let basic = match id {
            id::BOOL => "bool",
            id::INT => "int",
            id::UINT => "uint",
            id::FLOAT => "float",
            id::BYTES => "bytes",
            id::STRING => "string",
            id::COMPLEX => "complex",
            id::INTERFACE => "interface",
            _ => "",
        };
        match self.types.get(&id).map(AsRef::as_ref) {
            // Types may contain themselves.
            Some(_) if depth > 4 => "…".into(),
            Some(Wire::Struct { name, .. }) => name.clone(),
            Some(Wire::Slice { elem }) => format!("[]{}", self.name(*elem, depth + 1)),
            Some(Wire::Array { elem, len }) => format!("[{len}]{}", self.name(*elem, depth + 1)),
            Some(Wire::Map { key, elem }) => {
                format!("map[{}]{}", self.name(*key, depth + 1), self.name(*elem, depth + 1))
            }
            Some(Wire::Opaque) => "GobEncoder".into(),
            None if basic.is_empty() => format!("type {id}"),
            None => basic.into(),
        }
    }

    /// Skips a value of the type `id`. Learns the types that an interface value brings along.
    pub(crate) fn skip(&mut self, id: i64, input: &mut Input<'_>, depth: usize) -> Result<(), Error> {
        below(depth, self.limits.depth, "values inside values")?;
        match id {
            id::BOOL | id::INT | id::UINT | id::FLOAT => input.uint().map(drop),
            id::BYTES | id::STRING => input.bytes().map(drop),
            id::COMPLEX => input.uint().and_then(|_| input.uint()).map(drop),
            id::INTERFACE => self.skip_interface(input),
            _ => match &*self.get(id)? {
                Wire::Opaque => input.bytes().map(drop),
                Wire::Slice { elem } | Wire::Array { elem, .. } => {
                    (0..input.count()?).try_for_each(|_| self.skip(*elem, input, depth + 1))
                }
                Wire::Map { key, elem } => (0..input.count()?).try_for_each(|_| {
                    self.skip(*key, input, depth + 1)?;
                    self.skip(*elem, input, depth + 1)
                }),
                Wire::Struct { fields, .. } => each_field(input, |number, input| {
                    let (_, id) = fields.get(number).ok_or(OUT_OF_BOUNDS)?;
                    self.skip(*id, input, depth + 1)
                }),
            },
        }
    }

    fn skip_interface(&mut self, input: &mut Input<'_>) -> Result<(), Error> {
        if input.bytes()?.is_empty() {
            return Ok(());
        }
        loop {
            let id = input.int()?;
            if id >= 0 {
                return input.bytes().map(drop);
            }
            self.define(id.checked_neg().ok_or(OUT_OF_BOUNDS)?, input)?;
            // The length of what follows, which is another descriptor or the value.
            input.uint()?;
        }
    }
}

pub(crate) const OUT_OF_BOUNDS: Error = Error::Corrupt("field numbers out of bounds");

pub(crate) fn below(value: usize, limit: usize, what: &'static str) -> Result<(), Error> {
    if value > limit { Err(Error::Limit { what, limit }) } else { Ok(()) }
}

/// Calls `read` with the number of each field that the struct has, up to its end.
fn each_field<'a>(
    input: &mut Input<'a>,
    mut read: impl FnMut(usize, &mut Input<'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut next = 0;
    while let Some(number) = field(input, &mut next)? {
        read(number, input)?;
    }
    Ok(())
}

/// The number of the next field; `None` at the end of the struct. `next` begins at 0.
pub(crate) fn field(input: &mut Input<'_>, next: &mut usize) -> Result<Option<usize>, Error> {
    let delta = usize::try_from(input.uint()?).map_err(|_| OUT_OF_BOUNDS)?;
    *next = next.checked_add(delta).ok_or(OUT_OF_BOUNDS)?;
    Ok((delta > 0).then(|| *next - 1))
}

const NOT_A_TYPE: Error = Error::Corrupt("a type descriptor has an unknown form");

/// Go's `wireType`: a struct of which one field is set.
fn descriptor(input: &mut Input<'_>, limits: &Limits) -> Result<Wire, Error> {
    let mut found = None;
    each_field(input, |kind, input| {
        // The fields of each kind: name and id, and then what the kind needs.
        let (mut name, mut first, mut second, mut fields) = ("", 0, 0, Vec::new());
        each_field(input, |number, input| {
            match number {
                0 => each_field(input, |number, input| {
                    match number {
                        0 => name = short(input, limits)?,
                        1 => drop(input.int()?),
                        _ => return Err(NOT_A_TYPE),
                    }
                    Ok(())
                })?,
                1 if kind == 2 => fields = struct_fields(input, limits)?,
                1 => first = input.int()?,
                2 => second = input.int()?,
                _ => return Err(NOT_A_TYPE),
            }
            Ok(())
        })?;
        found = Some(match kind {
            0 => Wire::Array { elem: first, len: usize::try_from(second).map_err(|_| NOT_A_TYPE)? },
            1 => Wire::Slice { elem: first },
            2 => Wire::Struct { name: name.to_owned(), fields },
            3 => Wire::Map { key: first, elem: second },
            4..=6 => Wire::Opaque,
            _ => return Err(NOT_A_TYPE),
        });
        Ok(())
    })?;
    found.ok_or(NOT_A_TYPE)
}

fn struct_fields(input: &mut Input<'_>, limits: &Limits) -> Result<Vec<(String, i64)>, Error> {
    let count = input.count()?;
    below(count, limits.fields, "fields of a struct")?;
    (0..count)
        .map(|_| {
            let (mut name, mut id) = ("", 0);
            each_field(input, |number, input| {
                match number {
                    0 => name = short(input, limits)?,
                    1 => id = input.int()?,
                    _ => return Err(NOT_A_TYPE),
                }
                Ok(())
            })?;
            if name.is_empty() {
                Err(Error::Corrupt("a field has no name"))
            } else {
                Ok((name.to_owned(), id))
            }
        })
        .collect()
}

fn short<'a>(input: &mut Input<'a>, limits: &Limits) -> Result<&'a str, Error> {
    let name = input.str()?;
    below(name.len(), limits.name, "bytes of a name")?;
    Ok(name)
}

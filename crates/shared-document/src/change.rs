//! Decides from the bytes of a peer's change whether to accept it.
//!
//! automerge expands what it is given: a compressed chunk of a kilobyte may become a
//! gigabyte, and a column of ten bytes any number of operations. Any operation may
//! remove the text or replace it with something else. So before automerge reads a
//! change, this module walks its columns without expanding them. A change may only
//! insert strings into the text and delete elements of it, and no more of them than two
//! whole texts have. The operations that it refers to are returned, because it must
//! refer only to what its author knew.
//!
//! The format: <https://automerge.org/automerge-binary-format-spec/>.

use crate::{CHANGE_BYTES, GENESIS_ACTOR, HEADS, TEXT_BYTES};

/// The most operations of a change: delete a whole text and insert another one.
pub(crate) const OPERATIONS: u64 = 2 * TEXT_BYTES as u64;

const MAGIC: [u8; 4] = [0x85, 0x6f, 0x4a, 0x83];
/// The chunk type of a single uncompressed change.
const CHANGE: u8 = 1;
/// In bytes. Our own actors have 16.
const LONGEST_ACTOR: u64 = 64;

/// The actions of operations.
const SET: u64 = 1;
const DELETE: u64 = 3;
/// The low bits of a value's metadata; the bits above them are its length.
const STRING: u64 = 6;

type Checked<T> = Result<T, &'static str>;

/// What a change does, as far as its own bytes show.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outline<'a> {
    pub(crate) operations: u64,
    /// Every other actor whose operations the change refers to, with the highest of
    /// their numbers.
    pub(crate) named: Vec<(&'a [u8], u64)>,
}

/// The columns that a change may have, by their specification.
#[derive(Default)]
struct Columns<'a> {
    object_actor: &'a [u8],
    object_counter: &'a [u8],
    key_actor: &'a [u8],
    key_counter: &'a [u8],
    insert: &'a [u8],
    action: &'a [u8],
    value_metadata: &'a [u8],
    value: &'a [u8],
    predecessors: &'a [u8],
    predecessor_actor: &'a [u8],
    predecessor_counter: &'a [u8],
}

/// Checks that a chunk is a change of a text, and returns its outline.
pub(crate) fn check(chunk: &[u8]) -> Checked<Outline<'_>> {
    if chunk.len() > CHANGE_BYTES {
        return Err("it is too long");
    }
    let mut chunk = Reader(chunk);
    if chunk.take(4)? != MAGIC {
        return Err("it does not begin as a change does");
    }
    // The checksum is a part of the hash, which is computed here anyway.
    chunk.take(4)?;
    if chunk.take(1)? != [CHANGE] {
        return Err("it is another kind of chunk, such as a compressed one");
    }
    let length = chunk.number()?;
    if length != chunk.0.len() as u64 {
        return Err("it is not as long as it says");
    }
    let (head, columns) = Head::read(&mut chunk)?;
    let mut last = vec![0; head.actors.len()];
    let operations = columns.check(&head, &mut last)?;
    let named = head.actors.into_iter().zip(last).skip(1).filter(|(_, last)| *last > 0);
    Ok(Outline { operations, named: named.collect() })
}

/// The header of a change.
struct Head<'a> {
    /// The first one is the author. Operations refer to actors by their index.
    actors: Vec<&'a [u8]>,
    /// The index of the actor that created the text.
    text: u64,
    /// The number of the first operation.
    start: u64,
}

impl<'a> Head<'a> {
    fn read(change: &mut Reader<'a>) -> Checked<(Self, Columns<'a>)> {
        let dependencies = change.number()?;
        if dependencies > HEADS as u64 {
            return Err("it builds on too many heads");
        }
        change.take(dependencies * 32)?;
        let actor = |change: &mut Reader<'a>| match change.number()? {
            length if length > LONGEST_ACTOR => Err("the name of an actor is too long"),
            length => change.take(length),
        };
        let mut actors = vec![actor(change)?];
        let [_sequence, start, _time, message] =
            [change.number()?, change.number()?, change.number()?, change.number()?];
        if message != 0 {
            return Err("it has a message");
        }
        for _ in 0..change.number()? {
            actors.push(actor(change)?);
        }
        let columns = Columns::read(change)?;
        if !change.0.is_empty() {
            return Err("there is more after its columns");
        }
        let text = actors.iter().skip(1).position(|actor| *actor == GENESIS_ACTOR);
        let text = text.ok_or("it does not name the text")? as u64 + 1;
        Ok((Self { actors, text, start }, columns))
    }
}

impl<'a> Columns<'a> {
    fn read(change: &mut Reader<'a>) -> Checked<Self> {
        let mut columns = Self::default();
        let count = change.number()?;
        if count > 11 {
            return Err("it has too many columns");
        }
        let mut specifications = [(0, 0); 11];
        for specification in specifications.iter_mut().take(count as usize) {
            *specification = (change.number()?, change.number()?);
        }
        for (specification, length) in specifications.into_iter().take(count as usize) {
            let column = match specification {
                0x01 => &mut columns.object_actor,
                0x02 => &mut columns.object_counter,
                0x11 => &mut columns.key_actor,
                0x13 => &mut columns.key_counter,
                0x34 => &mut columns.insert,
                0x42 => &mut columns.action,
                0x56 => &mut columns.value_metadata,
                0x57 => &mut columns.value,
                0x70 => &mut columns.predecessors,
                0x71 => &mut columns.predecessor_actor,
                0x73 => &mut columns.predecessor_counter,
                _ => return Err("it does something else than insert and delete text"),
            };
            *column = change.take(length)?;
        }
        Ok(columns)
    }

    /// Returns the number of operations. Stores in `last` the highest operation
    /// referred to of each actor.
    fn check(&self, head: &Head<'_>, last: &mut [u64]) -> Checked<u64> {
        let operations = count(self.action)?;
        if operations == 0 {
            return Err("it does nothing");
        }
        if head.start.checked_add(operations).is_none() {
            return Err("a number in it is too large");
        }
        // Operation 1 of the genesis created the text.
        for (column, expected) in [(self.object_actor, head.text), (self.object_counter, 1)] {
            if count(column)? != operations || !Values::of(column).all(|value| value == Ok(Some(expected))) {
                return Err("it is about another object than the text");
            }
        }
        last[head.text as usize] = 1;
        for column in [self.key_actor, self.key_counter, self.predecessor_actor, self.predecessor_counter] {
            if count(column)? > operations {
                return Err("it names more than it has operations");
            }
        }
        if count(self.value_metadata)? != operations || count(self.predecessors)? != operations {
            return Err("its columns have different lengths");
        }
        let mut value_bytes = 0;
        let mut inserts = Flags::of(self.insert);
        let mut keys = Names::of(self.key_actor, self.key_counter);
        let mut predecessors = Names::of(self.predecessor_actor, self.predecessor_counter);
        let values = Values::of(self.action).zip(Values::of(self.value_metadata));
        for (number, ((action, metadata), before)) in
            (head.start..).zip(values.zip(Values::of(self.predecessors)))
        {
            let element = match (action?, inserts.next()?, metadata?, before?.unwrap_or_default()) {
                (Some(SET), true, Some(metadata), 0) if metadata & 15 == STRING => {
                    value_bytes += metadata >> 4;
                    match keys.next()? {
                        (None, Some(0)) => continue,
                        before => before,
                    }
                }
                // automerge keeps only which element it deletes, so that has to
                // describe it completely.
                (Some(DELETE), false, Some(0), 1) => match keys.next()? {
                    element if element == predecessors.next()? => element,
                    _ => return Err("it deletes something else than it says"),
                },
                _ => return Err("it does something else than insert and delete text"),
            };
            let (Some(actor), Some(counter @ 1..)) = element else { return Err("it names no element") };
            if actor == 0 && counter >= number {
                return Err("it names an element before it is there");
            }
            let last = last.get_mut(actor as usize).ok_or("it names an actor that it does not have")?;
            *last = counter.max(*last);
        }
        if value_bytes != self.value.len() as u64 {
            return Err("its values are not as long as it says");
        }
        if predecessors.next()? != (None, None) {
            return Err("it has another number of predecessors than it says");
        }
        Ok(operations)
    }
}

/// The number of values in a column of runs, with a bound.
fn count(column: &[u8]) -> Checked<u64> {
    let mut runs = Runs { column: Reader(column), signed: false };
    let mut total = 0_u64;
    while let Some(run) = runs.next()? {
        total = total.saturating_add(run.length());
        if total > OPERATIONS {
            return Err("it has more operations than two whole texts");
        }
        if let Run::Different(length) = run {
            for _ in 0..length {
                runs.value()?;
            }
        }
    }
    Ok(total)
}

enum Run {
    Same(u64, u64),
    Different(u64),
    Nothing(u64),
}

impl Run {
    fn length(&self) -> u64 {
        let (Self::Same(length, _) | Self::Different(length) | Self::Nothing(length)) = *self;
        length
    }
}

/// The runs of a column. A literal run is followed by its values, which have to be
/// read.
struct Runs<'a> {
    column: Reader<'a>,
    signed: bool,
}

impl Runs<'_> {
    fn next(&mut self) -> Checked<Option<Run>> {
        if self.column.0.is_empty() {
            return Ok(None);
        }
        Ok(Some(match self.column.signed()? {
            0 => Run::Nothing(self.column.number()?),
            length if length < 0 => Run::Different(length.unsigned_abs()),
            length => Run::Same(length.unsigned_abs(), self.value()?),
        }))
    }

    fn value(&mut self) -> Checked<u64> {
        if self.signed { Ok(self.column.signed()?.cast_unsigned()) } else { self.column.number() }
    }
}

/// The values of a column, one by one. Use only on columns that [`count`] has accepted.
struct Values<'a> {
    runs: Runs<'a>,
    run: Run,
}

impl<'a> Values<'a> {
    fn of(column: &'a [u8]) -> Self {
        Self { runs: Runs { column: Reader(column), signed: false }, run: Run::Nothing(0) }
    }

    fn signed(column: &'a [u8]) -> Self {
        Self { runs: Runs { column: Reader(column), signed: true }, run: Run::Nothing(0) }
    }

    fn advance(&mut self) -> Checked<Option<Option<u64>>> {
        loop {
            match &mut self.run {
                Run::Same(0, _) | Run::Different(0) | Run::Nothing(0) => match self.runs.next()? {
                    Some(run) => self.run = run,
                    None => return Ok(None),
                },
                Run::Same(left, value) => {
                    *left -= 1;
                    return Ok(Some(Some(*value)));
                }
                Run::Different(left) => {
                    *left -= 1;
                    return Ok(Some(Some(self.runs.value()?)));
                }
                Run::Nothing(left) => {
                    *left -= 1;
                    return Ok(Some(None));
                }
            }
        }
    }
}

impl Iterator for Values<'_> {
    type Item = Checked<Option<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}

/// Two columns that refer to operations: the index of an actor, and the difference of
/// the operation's number to the one before.
struct Names<'a> {
    actors: Values<'a>,
    steps: Values<'a>,
    counter: u64,
}

impl<'a> Names<'a> {
    fn of(actors: &'a [u8], steps: &'a [u8]) -> Self {
        Self { actors: Values::of(actors), steps: Values::signed(steps), counter: 0 }
    }

    /// Returns `None` after the end of a column.
    fn next(&mut self) -> Checked<(Option<u64>, Option<u64>)> {
        let actor = self.actors.advance()?.flatten();
        let Some(step) = self.steps.advance()?.flatten() else { return Ok((actor, None)) };
        self.counter = self.counter.wrapping_add(step);
        Ok((actor, Some(self.counter)))
    }
}

/// A column of flags: the lengths of runs, of which the first is `false`. Flags after
/// the end are `false`.
struct Flags<'a> {
    lengths: Reader<'a>,
    left: u64,
    value: bool,
}

impl<'a> Flags<'a> {
    fn of(column: &'a [u8]) -> Self {
        Self { lengths: Reader(column), left: 0, value: true }
    }

    fn next(&mut self) -> Checked<bool> {
        while self.left == 0 {
            if self.lengths.0.is_empty() {
                return Ok(false);
            }
            (self.left, self.value) = (self.lengths.number()?, !self.value);
        }
        self.left -= 1;
        Ok(self.value)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: u64) -> Checked<&'a [u8]> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it is cut off")?;
        self.0 = rest;
        Ok(taken)
    }

    /// Reads a LEB128 number. A signed one is returned as its bits.
    fn number(&mut self) -> Checked<u64> {
        Ok(self.leb128()?.0)
    }

    fn signed(&mut self) -> Checked<i64> {
        let (bits, used) = self.leb128()?;
        // The highest bit that was written is the sign.
        let unused = 64_u32.saturating_sub(used);
        Ok((bits << unused).cast_signed() >> unused)
    }

    fn leb128(&mut self) -> Checked<(u64, u32)> {
        let (mut bits, mut used) = (0, 0);
        loop {
            let &[byte] = self.take(1)? else { return Err("it is cut off") };
            if used > 63 {
                return Err("a number in it is too large");
            }
            bits |= u64::from(byte & 0x7f) << used;
            used += 7;
            if byte & 0x80 == 0 {
                return Ok((bits, used));
            }
        }
    }
}

//! A look at a Parquet file's schema before the library reads it.
//!
//! The library trusts two things that a file says: how many children an element of the schema has, for which it reserves
//! memory, and how deep elements lie within each other, which it follows by recursion. Either can end the process, and is
//! checked here first.
//!
//! A file ends with its metadata in Thrift's compact protocol, their length and `PAR1`. The metadata begin with a version and
//! the schema: a tree's elements from the root on, each before its children. This reader is strict. Each field must have the
//! type that the format gives it: the library goes by the format alone, and where the two differed it would see other elements
//! than were checked.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::Outcome;

/// The most groups within each other.
const DEPTH: usize = 64;

/// How many structures may lie within each other in a field that the format does not know yet.
const UNKNOWN_DEPTH: usize = 8;

/// Types of the compact protocol. The value of a `TRUE` or `FALSE` is in its type.
const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

/// A field's head holds the step from the field before and the type.
const NEXT: u8 = 1 << 4;

/// Refuses a Parquet file whose schema the library must not see.
pub(super) fn check(mut file: &File) -> Outcome<()> {
    let bytes = metadata(&mut file).map_err(|error| error.to_string())?;
    match bytes {
        Some(bytes) => schema(&bytes).map_err(|what| format!("the file is damaged: {what}")),
        None => Ok(()),
    }
}

/// The metadata. There are none where the library, too, finds none: then it says so.
fn metadata(file: &mut (impl Read + Seek)) -> std::io::Result<Option<Vec<u8>>> {
    let mut end = [0; 8];
    let Some(start) = file.seek(SeekFrom::End(0))?.checked_sub(end.len() as u64) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, magic @ ..] = end;
    let length = u32::from_le_bytes([a, b, c, d]);
    let (b"PAR1", Some(start)) = (&magic, start.checked_sub(length.into())) else { return Ok(None) };
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length.into()).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Walks the schema's elements.
fn schema(metadata: &[u8]) -> Outcome<()> {
    let mut from = Compact(metadata);
    let version = from.byte()? == NEXT | I32 && from.int().is_ok();
    if !version || from.byte()? != NEXT | LIST {
        return Err("its metadata do not begin with a version and a schema".into());
    }
    let head = from.byte()?;
    let count = match head >> 4 {
        15 => from.varint()?,
        count => count.into(),
    };
    if head & 15 != STRUCT {
        return Err("its schema is no list of elements".into());
    }
    // How many children are still to come, in all and of each group that is open.
    let mut wanted = 1;
    let mut open: Vec<u64> = Vec::new();
    for left in (0..count).rev() {
        if wanted == 0 {
            return Err("its schema has more than one root".into());
        }
        let children = from.element()?;
        wanted = wanted - 1 + children;
        if wanted > left {
            return Err(format!("its schema names {wanted} more elements where {left} are left"));
        }
        if let Some(siblings) = open.last_mut() {
            *siblings -= 1;
        }
        if children > 0 {
            open.push(children);
        }
        if open.len() > DEPTH {
            return Err(format!("its schema has more than {DEPTH} groups within each other"));
        }
        while open.last() == Some(&0) {
            open.pop();
        }
    }
    Ok(())
}

/// What is left of something in Thrift's compact protocol.
struct Compact<'a>(&'a [u8]);

impl Compact<'_> {
    fn advance(&mut self, count: u64) -> Outcome<()> {
        let rest = usize::try_from(count).ok().and_then(|count| self.0.get(count..));
        self.0 = rest.ok_or("its schema ends early")?;
        Ok(())
    }

    fn byte(&mut self) -> Outcome<u8> {
        let byte = self.0.first().copied();
        self.advance(1)?;
        byte.ok_or_else(|| "its schema ends early".into())
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Outcome<u64> {
        let mut number = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err("a number in its schema is too large".into())
    }

    /// A number with its sign in the lowest bit. The format's own are of 32 bits and fewer.
    fn int(&mut self) -> Outcome<i32> {
        let bits = self.varint()?;
        let number = (bits >> 1) as i64 ^ -((bits & 1) as i64);
        i32::try_from(number).map_err(|_| "a number in its schema is too large".into())
    }

    /// Hands out a structure's fields by id and type.
    fn fields(&mut self, mut each: impl FnMut(&mut Self, i32, u8) -> Outcome<()>) -> Outcome<()> {
        let mut last = 0;
        loop {
            let head = self.byte()?;
            let kind = head & 15;
            if kind == STOP {
                return Ok(());
            }
            let id = match head >> 4 {
                0 => self.int()?,
                step => last + i32::from(step),
            };
            if id <= last || id > i16::MAX.into() {
                return Err("fields in its schema are out of order".into());
            }
            each(self, id, kind)?;
            last = id;
        }
    }

    /// An element of the schema: how many children it has.
    fn element(&mut self) -> Outcome<u64> {
        let mut children = 0;
        self.fields(|from, id, kind| match (id, kind) {
            (5, I32) => {
                let count = from.int()?;
                children = count.try_into().map_err(|_| format!("an element of its schema has {count} children"))?;
                Ok(())
            }
            (4, BINARY) | (1..=3 | 6..=9, I32) => from.skip(kind, 0),
            (10, STRUCT) => from.logical_type(),
            (1..=10, _) => Err(wrong(id)),
            _ => from.skip(kind, UNKNOWN_DEPTH),
        })?;
        Ok(children)
    }

    /// The union of logical types, each a structure.
    fn logical_type(&mut self) -> Outcome<()> {
        self.fields(|from, logical, kind| {
            if kind != STRUCT {
                return Err(wrong(logical));
            }
            from.fields(|from, id, kind| match (logical, id, kind) {
                // A time's or timestamp's unit: a union of empty structures.
                (7 | 8, 2, STRUCT) => from.fields(|from, id, kind| match kind {
                    STRUCT => from.skip(kind, UNKNOWN_DEPTH),
                    _ => Err(wrong(id)),
                }),
                // A decimal, a time, a timestamp, an integer, a variant, a geometry and a geography.
                (5, 1 | 2, I32)
                | (7 | 8, 1, TRUE | FALSE)
                | (10, 1, BYTE)
                | (10, 2, TRUE | FALSE)
                | (16, 1, BYTE)
                | (17 | 18, 1, BINARY)
                | (18, 2, I32) => from.skip(kind, 0),
                (5 | 7 | 8 | 10 | 18, 1 | 2, _) | (16 | 17, 1, _) => Err(wrong(id)),
                _ => from.skip(kind, UNKNOWN_DEPTH),
            })
        })
    }

    /// Steps over a value. No field of a schema is a list so far.
    fn skip(&mut self, kind: u8, depth: usize) -> Outcome<()> {
        match kind {
            TRUE | FALSE => Ok(()),
            BYTE => self.advance(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.advance(8),
            BINARY => {
                let length = self.varint()?;
                self.advance(length)
            }
            STRUCT if depth > 0 => self.fields(|from, _, kind| from.skip(kind, depth - 1)),
            _ => Err("a field in its schema is of a type that is not read".into()),
        }
    }
}

fn wrong(id: i32) -> String {
    format!("the field {id} of something in its schema is of the wrong type")
}

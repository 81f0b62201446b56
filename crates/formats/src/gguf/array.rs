//! Arrays in the metadata of a GGUF file.
//!
//! An array keeps its elements in the file's own encoding, borrowed from the mapping when it was read:
//! the token list of a tokenizer costs no allocation, and copying a value from one file to another
//! copies its bytes.

use std::borrow::Cow;
use std::fmt;

use super::cursor::Cursor;
use super::value::{Value, ValueType};

/// Arrays of arrays may be this deep.
const MAX_DEPTH: usize = 4;

/// Elements of one type, in the file's encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Array<'a> {
    kind: ValueType,
    len: usize,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Array<'a> {
    /// An array of values that are all of type `kind`; `None` if one is not or if arrays are nested
    /// deeper than a reader would accept.
    pub fn new<'v>(kind: ValueType, values: impl IntoIterator<Item = Value<'v>>) -> Option<Array<'static>> {
        let mut bytes = Vec::new();
        let mut len = 0;
        for value in values {
            if value.kind() != kind {
                return None;
            }
            value.encode(&mut bytes);
            len += 1;
        }
        skip_elements(&mut Cursor::new(&bytes), kind, len as u64, 1).ok()?;
        Some(Array { kind, len, bytes: Cow::Owned(bytes) })
    }

    /// An array of strings.
    pub fn strings<S: AsRef<[u8]>>(strings: impl IntoIterator<Item = S>) -> Array<'static> {
        let mut bytes = Vec::new();
        let mut len = 0;
        for string in strings {
            encode_string(string.as_ref(), &mut bytes);
            len += 1;
        }
        Array { kind: ValueType::String, len, bytes: Cow::Owned(bytes) }
    }

    /// The elements' type.
    pub fn kind(&self) -> ValueType {
        self.kind
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The elements.
    pub fn iter(&self) -> impl Iterator<Item = Value<'_>> {
        let mut cursor = Cursor::new(&self.bytes);
        // The elements were checked when the array was made, so that none is lost here.
        (0..self.len).map_while(move |_| Value::decode(&mut cursor, self.kind, 1).ok())
    }

    /// The elements of an array of strings, as bytes.
    pub fn byte_strings(&self) -> Option<ByteStrings<'_>> {
        (self.kind == ValueType::String).then(|| ByteStrings { rest: &self.bytes, left: self.len })
    }

    /// The same, for an array that is borrowed from a file: the strings live as long as the file.
    pub(super) fn into_byte_strings(self) -> Option<ByteStrings<'a>> {
        match self.bytes {
            Cow::Borrowed(rest) if self.kind == ValueType::String => Some(ByteStrings { rest, left: self.len }),
            _ => None,
        }
    }

    /// An array of numbers whose encoding is at hand.
    pub(super) fn of_numbers(kind: ValueType, len: usize, bytes: Vec<u8>) -> Array<'static> {
        Array { kind, len, bytes: Cow::Owned(bytes) }
    }

    pub(super) fn into_owned(self) -> Array<'static> {
        Array { kind: self.kind, len: self.len, bytes: Cow::Owned(self.bytes.into_owned()) }
    }

    /// Appends the array in the file's encoding.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.kind.id().to_le_bytes());
        out.extend((self.len as u64).to_le_bytes());
        out.extend_from_slice(&self.bytes);
    }

    /// The elements in the file's encoding.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads an array that lies `depth` arrays deep; the error says what is wrong.
    pub(super) fn decode(cursor: &mut Cursor<'a>, depth: usize) -> Result<Array<'a>, String> {
        let (kind, len) = array_head(cursor, depth)?;
        let start = cursor.position();
        skip_elements(cursor, kind, len, depth + 1)?;
        let bytes = Cow::Borrowed(cursor.since(start));
        // Each element takes at least a byte of the file, so that the count fits.
        Ok(Array { kind, len: len as usize, bytes })
    }

    /// An array over bytes that [`decode`](Array::decode) has checked before.
    pub(super) fn checked(kind: ValueType, len: usize, bytes: &'a [u8]) -> Array<'a> {
        Array { kind, len, bytes: Cow::Borrowed(bytes) }
    }
}

fn array_head(cursor: &mut Cursor<'_>, depth: usize) -> Result<(ValueType, u64), String> {
    if depth >= MAX_DEPTH {
        return Err(format!("arrays are nested more than {MAX_DEPTH} deep"));
    }
    let id = cursor.u32()?;
    let kind = ValueType::from_id(id).ok_or_else(|| format!("array elements are of unknown type {id}"))?;
    Ok((kind, cursor.u64()?))
}

/// Moves over `len` elements and checks them. Work and depth are bounded by the bytes there are.
fn skip_elements(cursor: &mut Cursor<'_>, kind: ValueType, len: u64, depth: usize) -> Result<(), String> {
    if let Some(size) = kind.fixed_bytes() {
        let bytes = usize::try_from(len)
            .ok()
            .and_then(|len| len.checked_mul(size))
            .and_then(|bytes| cursor.take(bytes).ok())
            .ok_or_else(|| {
                format!("an array claims {len} elements of {kind}, but only {} bytes follow", cursor.remaining())
            })?;
        if kind == ValueType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err("an array of bools holds a byte that is neither 0 nor 1".into());
        }
        return Ok(());
    }
    // The smallest string is its length; the smallest array its type and length.
    let smallest = if kind == ValueType::String { 8 } else { 12 };
    if len > cursor.remaining() as u64 / smallest {
        return Err(format!("an array claims {len} elements of {kind}, but only {} bytes follow", cursor.remaining()));
    }
    for _ in 0..len {
        if kind == ValueType::String {
            cursor.string()?;
        } else {
            let (kind, len) = array_head(cursor, depth)?;
            skip_elements(cursor, kind, len, depth + 1)?;
        }
    }
    Ok(())
}

/// The strings of an array, as bytes, in order.
#[derive(Clone, Debug)]
pub struct ByteStrings<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for ByteStrings<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor::new(self.rest);
        let string = cursor.string().ok()?;
        self.rest = &self.rest[cursor.position()..];
        Some(string)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for ByteStrings<'_> {}

/// The strings of an array that is known to be UTF-8, in order.
#[derive(Clone, Debug)]
pub struct Strings<'a>(ByteStrings<'a>);

impl<'a> Strings<'a> {
    /// Checks all strings; the error is the index of the first that is not UTF-8.
    pub(super) fn new(strings: ByteStrings<'a>) -> Result<Strings<'a>, usize> {
        match strings.clone().position(|s| std::str::from_utf8(s).is_err()) {
            Some(index) => Err(index),
            None => Ok(Strings(strings)),
        }
    }
}

impl<'a> Iterator for Strings<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        // Checked by `new`: the default is never taken.
        self.0.next().map(|s| std::str::from_utf8(s).unwrap_or_default())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Strings<'_> {}

/// The first elements and the count; broken UTF-8 replaced.
impl fmt::Display for Array<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 6;
        f.write_str("[")?;
        for (i, value) in self.iter().take(SHOWN).enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match &value {
                Value::String(s) => write!(f, "{comma}{:?}", String::from_utf8_lossy(s))?,
                other => write!(f, "{comma}{other}")?,
            }
        }
        match self.len > SHOWN {
            true => write!(f, ", ... {} in all]", self.len),
            false => f.write_str("]"),
        }
    }
}

/// Appends a string: a 64-bit length and the bytes.
pub(super) fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

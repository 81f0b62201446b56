//! Metadata values of a GGUF file.
//!
//! An array keeps its elements in the file's own encoding, borrowed from the mapping when it was read:
//! the token list of a tokenizer costs no allocation, and copying a value from one file to another
//! copies its bytes.

use std::borrow::Cow;
use std::fmt;

use super::cursor::Cursor;

/// Arrays of arrays may be this deep.
pub(super) const MAX_DEPTH: usize = 4;

/// The type of a metadata value or of an array's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    /// 8-bit unsigned integer.
    U8 = 0,
    /// 8-bit signed integer.
    I8 = 1,
    /// 16-bit unsigned integer.
    U16 = 2,
    /// 16-bit signed integer.
    I16 = 3,
    /// 32-bit unsigned integer.
    U32 = 4,
    /// 32-bit signed integer.
    I32 = 5,
    /// Single precision.
    F32 = 6,
    /// One byte, 0 or 1.
    Bool = 7,
    /// Length and bytes, meant to be UTF-8.
    String = 8,
    /// Element type, count and elements.
    Array = 9,
    /// 64-bit unsigned integer.
    U64 = 10,
    /// 64-bit signed integer.
    I64 = 11,
    /// Double precision.
    F64 = 12,
}

impl ValueType {
    /// All types, in the order of their numbers.
    pub const ALL: [ValueType; 13] = [
        ValueType::U8,
        ValueType::I8,
        ValueType::U16,
        ValueType::I16,
        ValueType::U32,
        ValueType::I32,
        ValueType::F32,
        ValueType::Bool,
        ValueType::String,
        ValueType::Array,
        ValueType::U64,
        ValueType::I64,
        ValueType::F64,
    ];

    /// The type with this number in the file.
    pub fn from_id(id: u32) -> Option<ValueType> {
        ValueType::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// The type's number in the file.
    pub const fn id(self) -> u32 {
        self as u32
    }

    /// The name, as in Rust, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            ValueType::U8 => "u8",
            ValueType::I8 => "i8",
            ValueType::U16 => "u16",
            ValueType::I16 => "i16",
            ValueType::U32 => "u32",
            ValueType::I32 => "i32",
            ValueType::F32 => "f32",
            ValueType::Bool => "bool",
            ValueType::String => "string",
            ValueType::Array => "array",
            ValueType::U64 => "u64",
            ValueType::I64 => "i64",
            ValueType::F64 => "f64",
        }
    }

    /// Bytes of a value whose size does not vary.
    pub(super) const fn fixed_bytes(self) -> Option<usize> {
        match self {
            ValueType::U8 | ValueType::I8 | ValueType::Bool => Some(1),
            ValueType::U16 | ValueType::I16 => Some(2),
            ValueType::U32 | ValueType::I32 | ValueType::F32 => Some(4),
            ValueType::U64 | ValueType::I64 | ValueType::F64 => Some(8),
            ValueType::String | ValueType::Array => None,
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // The names are those of `ValueType`.
pub enum Value<'a> {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    /// The bytes of a string: files are not always honest about UTF-8.
    String(Cow<'a, [u8]>),
    Array(Array<'a>),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl<'a> Value<'a> {
    /// The value's type.
    pub fn kind(&self) -> ValueType {
        match self {
            Value::U8(_) => ValueType::U8,
            Value::I8(_) => ValueType::I8,
            Value::U16(_) => ValueType::U16,
            Value::I16(_) => ValueType::I16,
            Value::U32(_) => ValueType::U32,
            Value::I32(_) => ValueType::I32,
            Value::F32(_) => ValueType::F32,
            Value::Bool(_) => ValueType::Bool,
            Value::String(_) => ValueType::String,
            Value::Array(_) => ValueType::Array,
            Value::U64(_) => ValueType::U64,
            Value::I64(_) => ValueType::I64,
            Value::F64(_) => ValueType::F64,
        }
    }

    /// The value as an integer, if it is of an integer type.
    pub fn as_integer(&self) -> Option<i128> {
        match *self {
            Value::U8(v) => Some(v.into()),
            Value::I8(v) => Some(v.into()),
            Value::U16(v) => Some(v.into()),
            Value::I16(v) => Some(v.into()),
            Value::U32(v) => Some(v.into()),
            Value::I32(v) => Some(v.into()),
            Value::U64(v) => Some(v.into()),
            Value::I64(v) => Some(v.into()),
            _ => None,
        }
    }

    /// The value as a float, if it is of a float type (`f64` is rounded).
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(v) => Some(v),
            Value::F64(v) => Some(v as f32),
            _ => None,
        }
    }

    /// The value with nothing borrowed.
    pub fn into_owned(self) -> Value<'static> {
        match self {
            Value::U8(v) => Value::U8(v),
            Value::I8(v) => Value::I8(v),
            Value::U16(v) => Value::U16(v),
            Value::I16(v) => Value::I16(v),
            Value::U32(v) => Value::U32(v),
            Value::I32(v) => Value::I32(v),
            Value::F32(v) => Value::F32(v),
            Value::Bool(v) => Value::Bool(v),
            Value::String(v) => Value::String(Cow::Owned(v.into_owned())),
            Value::Array(Array { kind, len, bytes }) => {
                Value::Array(Array { kind, len, bytes: Cow::Owned(bytes.into_owned()) })
            }
            Value::U64(v) => Value::U64(v),
            Value::I64(v) => Value::I64(v),
            Value::F64(v) => Value::F64(v),
        }
    }

    /// Appends the value, without its type, in the file's encoding.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::U8(v) => out.push(*v),
            Value::I8(v) => out.extend(v.to_le_bytes()),
            Value::U16(v) => out.extend(v.to_le_bytes()),
            Value::I16(v) => out.extend(v.to_le_bytes()),
            Value::U32(v) => out.extend(v.to_le_bytes()),
            Value::I32(v) => out.extend(v.to_le_bytes()),
            Value::F32(v) => out.extend(v.to_le_bytes()),
            Value::Bool(v) => out.push(u8::from(*v)),
            Value::String(bytes) => encode_string(bytes, out),
            Value::Array(array) => {
                out.extend(array.kind.id().to_le_bytes());
                out.extend((array.len as u64).to_le_bytes());
                out.extend_from_slice(&array.bytes);
            }
            Value::U64(v) => out.extend(v.to_le_bytes()),
            Value::I64(v) => out.extend(v.to_le_bytes()),
            Value::F64(v) => out.extend(v.to_le_bytes()),
        }
    }

    /// Decodes a value of the given type; the error says what is wrong.
    pub(super) fn decode(cursor: &mut Cursor<'a>, kind: ValueType, depth: usize) -> Result<Value<'a>, String> {
        Ok(match kind {
            ValueType::U8 => Value::U8(u8::from_le_bytes(cursor.array()?)),
            ValueType::I8 => Value::I8(i8::from_le_bytes(cursor.array()?)),
            ValueType::U16 => Value::U16(u16::from_le_bytes(cursor.array()?)),
            ValueType::I16 => Value::I16(i16::from_le_bytes(cursor.array()?)),
            ValueType::U32 => Value::U32(cursor.u32()?),
            ValueType::I32 => Value::I32(i32::from_le_bytes(cursor.array()?)),
            ValueType::F32 => Value::F32(f32::from_le_bytes(cursor.array()?)),
            ValueType::Bool => match u8::from_le_bytes(cursor.array()?) {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(format!("a bool is {other}, neither 0 nor 1")),
            },
            ValueType::String => Value::String(Cow::Borrowed(cursor.string()?)),
            ValueType::Array => Value::Array(Array::decode(cursor, depth)?),
            ValueType::U64 => Value::U64(cursor.u64()?),
            ValueType::I64 => Value::I64(i64::from_le_bytes(cursor.array()?)),
            ValueType::F64 => Value::F64(f64::from_le_bytes(cursor.array()?)),
        })
    }
}

fn encode_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend((bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

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

    /// The same for an array that is borrowed from the file, which the strings then outlive it with.
    pub(super) fn into_byte_strings(self) -> Option<ByteStrings<'a>> {
        match self.bytes {
            Cow::Borrowed(rest) if self.kind == ValueType::String => Some(ByteStrings { rest, left: self.len }),
            _ => None,
        }
    }

    /// The elements in the file's encoding.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.bytes
    }

    fn decode(cursor: &mut Cursor<'a>, depth: usize) -> Result<Array<'a>, String> {
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

macro_rules! from_number {
    ($($kind:ident $number:ty),*) => {$(
        impl From<$number> for Value<'_> {
            fn from(value: $number) -> Self {
                Value::$kind(value)
            }
        }

        impl From<&[$number]> for Array<'static> {
            fn from(values: &[$number]) -> Self {
                let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                Array { kind: ValueType::$kind, len: values.len(), bytes: Cow::Owned(bytes) }
            }
        }

        impl From<&[$number]> for Value<'static> {
            fn from(values: &[$number]) -> Self {
                Value::Array(values.into())
            }
        }
    )*};
}
from_number!(U8 u8, I8 i8, U16 u16, I16 i16, U32 u32, I32 i32, F32 f32, U64 u64, I64 i64, F64 f64);

impl From<bool> for Value<'_> {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(value: &'a str) -> Self {
        Value::String(Cow::Borrowed(value.as_bytes()))
    }
}

impl From<String> for Value<'_> {
    fn from(value: String) -> Self {
        Value::String(Cow::Owned(value.into_bytes()))
    }
}

impl<'a> From<Array<'a>> for Value<'a> {
    fn from(value: Array<'a>) -> Self {
        Value::Array(value)
    }
}

/// Numbers and strings as they are (broken UTF-8 replaced), arrays as their first elements and count.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::U8(v) => v.fmt(f),
            Value::I8(v) => v.fmt(f),
            Value::U16(v) => v.fmt(f),
            Value::I16(v) => v.fmt(f),
            Value::U32(v) => v.fmt(f),
            Value::I32(v) => v.fmt(f),
            Value::F32(v) => v.fmt(f),
            Value::Bool(v) => v.fmt(f),
            Value::String(v) => String::from_utf8_lossy(v).fmt(f),
            Value::Array(v) => v.fmt(f),
            Value::U64(v) => v.fmt(f),
            Value::I64(v) => v.fmt(f),
            Value::F64(v) => v.fmt(f),
        }
    }
}

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

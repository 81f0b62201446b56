//! A JSON configuration file with typed access to its keys.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::{Error, Result};

/// A parsed value takes up to 200 bytes, however short it is in the file.
const MAX_VALUES: usize = 1 << 19;

/// A parsed JSON object and the name of its file, for messages. A key with the value `null` counts as
/// missing, as it does for transformers.
#[derive(Clone, Debug)]
pub struct JsonFile {
    file: String,
    root: serde_json::Map<String, Value>,
}

impl JsonFile {
    /// Parses a file that is in memory; `file` is its name.
    pub fn parse(bytes: &[u8], file: &str) -> Result<JsonFile> {
        // Commas and brackets in strings count too: the limit is far above real files all the same.
        if bytes.iter().filter(|b| matches!(b, b',' | b'[' | b'{')).count() > MAX_VALUES {
            return Err(Error::invalid(file, format!("more than {MAX_VALUES} values")));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(root)) => Ok(JsonFile { file: file.to_owned(), root }),
            Ok(_) => Err(Error::invalid(file, "not a JSON object")),
            Err(e) => Err(Error::invalid(file, format!("not valid JSON: {e}"))),
        }
    }

    /// The file's name, for messages.
    pub fn name(&self) -> &str {
        &self.file
    }

    /// The whole object.
    pub fn root(&self) -> &serde_json::Map<String, Value> {
        &self.root
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.root.get(key).filter(|v| !v.is_null())
    }

    /// The object under a key (`text_config`, `rope_scaling`) as a file of its own.
    pub fn find_object(&self, key: &str) -> Result<Option<JsonFile>> {
        self.typed(key, "an object", |v| {
            let root = v.as_object()?.clone();
            Some(JsonFile { file: format!("{} under `{key}`", self.file), root })
        })
    }

    /// A count or size.
    pub fn get_usize(&self, key: &str) -> Result<usize> {
        self.need(key, self.find_usize(key))
    }

    /// A count or size, if the key is there.
    pub fn find_usize(&self, key: &str) -> Result<Option<usize>> {
        self.typed(key, "an unsigned integer", |v| usize::try_from(v.as_u64()?).ok())
    }

    /// A number that fits in `f32`'s range, rounded to `f64`'s precision only.
    pub fn get_f64(&self, key: &str) -> Result<f64> {
        self.need(key, self.find_f64(key))
    }

    /// A number, if the key is there.
    pub fn find_f64(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A bool, if the key is there.
    pub fn find_bool(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "true or false", Value::as_bool)
    }

    /// A string.
    pub fn get_str(&self, key: &str) -> Result<&str> {
        self.need(key, self.find_str(key))
    }

    /// A string, if the key is there.
    pub fn find_str(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", Value::as_str)
    }

    /// Token ids: a number or an array of numbers (`eos_token_id` is either). Empty if the key is
    /// missing.
    pub fn token_ids(&self, key: &str) -> Result<Vec<u32>> {
        let id = |v: &Value| u32::try_from(v.as_u64()?).ok();
        let ids = self.typed(key, "a token id or an array of them", |v| match v {
            Value::Array(ids) => ids.iter().map(id).collect(),
            one => id(one).map(|id| vec![id]),
        })?;
        Ok(ids.unwrap_or_default())
    }

    fn need<T>(&self, key: &str, found: Result<Option<T>>) -> Result<T> {
        found?.ok_or_else(|| Error::MissingKey { file: self.file.clone(), key: key.to_owned() })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        convert(value).map(Some).ok_or_else(|| Error::KeyType {
            file: self.file.clone(),
            key: key.to_owned(),
            expected,
            found: describe(value),
        })
    }
}

fn describe(value: &Value) -> String {
    match value {
        Value::String(_) => "a string".into(),
        Value::Array(items) => format!("an array of {}", items.len()),
        Value::Object(_) => "an object".into(),
        other => other.to_string(),
    }
}

/// Reads a file that is at most `limit` bytes long; `None` if there is no such file.
pub(super) fn read_at_most(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::io("open", path)(e)),
    };
    let metadata = file.metadata().map_err(Error::io("open", path))?;
    let name = || path.display().to_string();
    if !metadata.is_file() {
        return Err(Error::invalid(&name(), "not a regular file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed, to notice a longer file whatever its metadata says.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(Error::invalid(&name(), format!("larger than {} MiB", limit >> 20)));
    }
    Ok(Some(bytes))
}

/// A JSON object of strings, in order, with repeated keys kept.
pub(super) struct StringPairs(pub(super) Vec<(String, String)>);

impl<'de> Deserialize<'de> for StringPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PairsVisitor;
        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = StringPairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<StringPairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry::<String, String>()? {
                    pairs.push(pair);
                }
                Ok(StringPairs(pairs))
            }
        }
        deserializer.deserialize_map(PairsVisitor)
    }
}

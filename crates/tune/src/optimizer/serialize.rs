//! The state as a stream of bytes, for checkpoints: a safetensors file.
//!
//! Its header follows from the optimizer and the tensors alone, so what is read has to have the very header that this
//! optimizer would write; only then are the numbers looked at. The steps are one of the tensors, and the last is a CRC-32
//! of everything before it.

use std::io::{Read, Write};

use serde_json::{Map, Value, json};

use super::{Optimizer, OptimizerKind};
use crate::{Error, Result};

/// Bytes of a header of another run that are looked at in order to say what differs.
const READABLE: u64 = 16 << 20;
const METADATA: &str = "__metadata__";

impl Optimizer {
    /// Writes the state: the same bytes for the same state, wherever it is kept.
    ///
    /// # Errors
    /// The writer fails.
    pub fn write_to(&self, out: &mut impl Write) -> Result<()> {
        self.write(out).map_err(|e| Error::OptimizerState(format!("cannot be written: {e}")))
    }

    fn write(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut crc = crc32fast::Hasher::new();
        let mut put = |bytes: &[u8]| {
            crc.update(bytes);
            out.write_all(bytes)
        };
        let header = self.header();
        put(&(header.len() as u64).to_le_bytes())?;
        put(&header)?;
        for steps in &self.steps {
            put(&steps.to_le_bytes())?;
        }
        for (index, layout) in self.layouts.iter().enumerate() {
            self.regions.will_need(index);
            put(&self.regions.bytes(index)[..layout.bytes()])?;
            self.regions.may_go(index);
        }
        out.write_all(&crc.finalize().to_le_bytes())?;
        out.flush()
    }

    /// Reads what [`write_to`](Optimizer::write_to) wrote for the same optimizer and tensors, to the end of the stream.
    ///
    /// # Errors
    /// It is of another optimizer or other tensors, too short, too long or damaged. The state is a new one then.
    pub fn read_from(&mut self, input: &mut impl Read) -> Result<()> {
        let done = self.read(input);
        if done.is_err() {
            self.steps.fill(0);
            for index in 0..self.layouts.len() {
                self.regions.bytes_mut(index).fill(0);
                self.regions.may_go(index);
            }
        }
        done
    }

    fn read(&mut self, input: &mut impl Read) -> Result<()> {
        let expected = self.header();
        let mut crc = crc32fast::Hasher::new();
        let mut length = [0; 8];
        fill(input, &mut length)?;
        crc.update(&length);
        let length = u64::from_le_bytes(length);
        let mut header = Vec::new();
        let readable = length.min(READABLE.max(expected.len() as u64));
        input.take(readable).read_to_end(&mut header).map_err(unreadable)?;
        if (header.len() as u64) < readable {
            return Err(unreadable(std::io::ErrorKind::UnexpectedEof.into()));
        }
        if length != expected.len() as u64 || header != expected {
            return Err(Error::OptimizerState(difference(&header, &expected)));
        }
        crc.update(&header);
        for steps in &mut self.steps {
            let mut bytes = [0; 8];
            fill(input, &mut bytes)?;
            crc.update(&bytes);
            *steps = u64::from_le_bytes(bytes);
        }
        for (index, layout) in self.layouts.iter().enumerate() {
            let region = &mut self.regions.bytes_mut(index)[..layout.bytes()];
            fill(input, region)?;
            crc.update(region);
            self.regions.may_go(index);
        }
        let mut sum = [0; 4];
        fill(input, &mut sum)?;
        if u32::from_le_bytes(sum) != crc.finalize() {
            return Err(Error::OptimizerState("damaged: its checksum does not fit; take an older checkpoint".into()));
        }
        if input.read(&mut [0]).map_err(unreadable)? != 0 {
            return Err(Error::OptimizerState("damaged: more follows behind its end; take an older checkpoint".into()));
        }
        Ok(())
    }

    /// The header: what there is, and where.
    fn header(&self) -> Vec<u8> {
        let mut end = 0;
        let mut entry = |element: &str, len: usize, bytes: usize| {
            let start = end;
            end += len * bytes;
            json!({ "dtype": element, "shape": [len], "data_offsets": [start, end] })
        };
        let mut header = Map::new();
        header.insert(METADATA.into(), self.settings());
        header.insert("steps".into(), entry("U64", self.steps.len(), 8));
        for (tensor, layout) in self.tensors.iter().zip(&self.layouts) {
            for part in &layout.parts {
                let entry = entry(part.element.name(), part.len, part.element.bytes());
                header.insert(format!("{}.{}", tensor.name, part.name), entry);
            }
        }
        header.insert("crc32".into(), entry("U32", 1, 4));
        let mut bytes = Value::Object(header).to_string().into_bytes();
        bytes.resize(bytes.len().next_multiple_of(8), b' ');
        bytes
    }

    /// What the state's meaning depends on, as safetensors has metadata: words only.
    fn settings(&self) -> Value {
        let adam = |name: &str, beta1: f64, beta2: f64, eps: f64| {
            json!({ "format": "porism-optimizer", "optimizer": name, "beta1": beta1.to_string(),
                "beta2": beta2.to_string(), "eps": eps.to_string() })
        };
        match self.kind {
            OptimizerKind::AdamW { beta1, beta2, eps } => adam("adamw", beta1, beta2, eps),
            OptimizerKind::AdamW8bit { beta1, beta2, eps } => adam("adamw8bit", beta1, beta2, eps),
            OptimizerKind::Sgd { momentum } => {
                json!({ "format": "porism-optimizer", "optimizer": "sgd", "momentum": momentum.to_string() })
            }
        }
    }
}

/// Reads as many bytes as there is room for.
fn fill(input: &mut impl Read, bytes: &mut [u8]) -> Result<()> {
    input.read_exact(bytes).map_err(unreadable)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::OptimizerState(match error.kind() {
        std::io::ErrorKind::UnexpectedEof => "damaged: it ends early; take an older checkpoint".into(),
        _ => format!("cannot be read: {error}"),
    })
}

/// What distinguishes a header from the one that is needed.
fn difference(found: &[u8], expected: &[u8]) -> String {
    let parse = |bytes| serde_json::from_slice::<Map<String, Value>>(bytes).ok();
    let (Some(found), Some(expected)) = (parse(found), parse(expected)) else {
        return "damaged: it does not begin with a header; take an older checkpoint".into();
    };
    let advice = "take the recipe that it was made with, or begin anew";
    if let (Some(Value::Object(theirs)), Some(Value::Object(ours))) = (found.get(METADATA), expected.get(METADATA)) {
        for (key, ours) in ours {
            match theirs.get(key) {
                Some(theirs) if theirs == ours => {}
                Some(theirs) => {
                    return format!("it has {key} {:.60}, this run has {ours}; {advice}", theirs.to_string());
                }
                None => return format!("it has no {key}, this run has {ours}; {advice}"),
            }
        }
    }
    let kind = |entry: &Value| format!("{:.60} {:.60}", entry["dtype"].to_string(), entry["shape"].to_string());
    for (name, ours) in expected.iter().filter(|(name, _)| *name != METADATA) {
        match found.get(name) {
            None => return format!("`{name}` is missing, which this run trains; {advice}"),
            Some(theirs) if kind(theirs) != kind(ours) => {
                return format!("`{name}` is {}, this run has {}; {advice}", kind(theirs), kind(ours));
            }
            Some(_) => {}
        }
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(name) => format!("this run does not train what `{name:.100}` belongs to; {advice}"),
        None => "its header is not as this program writes it; take an older checkpoint".into(),
    }
}

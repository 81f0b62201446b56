//! `model.safetensors.index.json`: which shard holds which tensor.

use std::collections::HashSet;

use serde::Deserialize;

use super::json::StringPairs;
use crate::{Error, Result};

/// More shards than any model has; each one is a mapping.
const MAX_SHARDS: usize = 4096;

/// The pairs of tensor name and shard file of an index. Shards must be plain file names: an index
/// cannot point out of its folder. `file` is the index's name, for messages.
pub fn parse_index(bytes: &[u8], file: &str) -> Result<Vec<(String, String)>> {
    let index: Index =
        serde_json::from_slice(bytes).map_err(|e| Error::invalid(file, format!("not a valid index of shards: {e}")))?;
    let mut names = HashSet::new();
    let mut shards = HashSet::new();
    for (name, shard) in &index.weight_map.0 {
        if !names.insert(name) {
            return Err(Error::invalid(file, format!("the tensor `{name}` occurs twice")));
        }
        if !is_plain_name(shard) {
            let problem = format!("the shard \"{}\" is not a plain file name", shard.escape_debug());
            return Err(Error::invalid(file, problem));
        }
        if shards.insert(shard) && shards.len() > MAX_SHARDS {
            return Err(Error::invalid(file, format!("more than {MAX_SHARDS} shards")));
        }
    }
    Ok(index.weight_map.0)
}

fn is_plain_name(name: &str) -> bool {
    !name.starts_with('.') && name.ends_with(".safetensors") && !name.contains(['/', '\\', '\0', ':'])
}

#[derive(Deserialize)]
struct Index {
    weight_map: StringPairs,
}

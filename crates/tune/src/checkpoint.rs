//! Checkpoints: a folder with everything that a run needs to go on bit for bit, which appears whole or not at all.

use std::path::{Path, PathBuf};

use porism_formats::hf::{HfTensor, HfWriter, SafeTensors};
use porism_kernels::BlockType;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What begins a checkpoint's name, before the number of the update.
const PREFIX: &str = "checkpoint-";
const STATE: &str = "state.json";
const OPTIMIZER: &str = "optimizer.bin";
const PARAMETERS: &str = "model.safetensors";

/// Where a run stands, beside its numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Updates that are done.
    pub step: u64,
    /// Tells this run's recipe, data and model from others.
    pub run: String,
    /// The lowest validation loss so far, and its update.
    pub best: Option<(f64, u64)>,
}

/// A checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Where the run stood.
    pub state: State,
    /// The parameters' values, in their order.
    pub parameters: Vec<Vec<f32>>,
    /// The optimizer's state.
    pub optimizer: Vec<u8>,
}

impl Checkpoint {
    /// Writes it as `checkpoint-STEP` into a run's folder and removes older ones. `names` are the parameters'.
    ///
    /// # Errors
    /// It cannot be written; older checkpoints are then still there.
    pub fn save(&self, folder: &Path, names: &[String]) -> Result<PathBuf> {
        let target = folder.join(format!("{PREFIX}{:08}", self.state.step));
        if target.exists() {
            // Of the same update, from a run that went on from an earlier one.
            std::fs::remove_dir_all(&target).map_err(Error::io("replace the checkpoint", &target))?;
        }
        let tensor = |(name, values): (&String, &Vec<f32>)| HfTensor {
            name: name.clone(),
            shape: vec![values.len()],
            block: BlockType::F32,
        };
        let tensors: Vec<HfTensor> = names.iter().zip(&self.parameters).map(tensor).collect();
        let mut writer = HfWriter::create(&target, &tensors, u64::MAX)?;
        for (name, values) in names.iter().zip(&self.parameters) {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            writer.write(name, &bytes)?;
        }
        let state =
            serde_json::to_vec_pretty(&self.state).map_err(|e| Error::Recipe(format!("the checkpoint: {e}")))?;
        writer.write_file(OPTIMIZER, &self.optimizer)?;
        writer.write_file(STATE, &state)?;
        writer.commit()?;
        for (step, path) in checkpoints(folder)? {
            if step != self.state.step {
                std::fs::remove_dir_all(&path).map_err(Error::io("remove the old checkpoint", &path))?;
            }
        }
        Ok(target)
    }

    /// The newest checkpoint of a run's folder, if there is one.
    ///
    /// # Errors
    /// It is damaged, or of another run.
    pub fn newest(folder: &Path, names: &[String], run: &str) -> Result<Option<Checkpoint>> {
        let Some((_, path)) = checkpoints(folder)?.into_iter().max() else { return Ok(None) };
        let damaged = |what: String| Error::Recipe(format!("{}: {what}; remove it to begin anew", path.display()));
        let read = |name: &str| {
            let path = path.join(name);
            std::fs::read(&path).map_err(Error::io("read", &path))
        };
        let state: State = serde_json::from_slice(&read(STATE)?).map_err(|e| damaged(format!("{STATE}: {e}")))?;
        if state.run != run {
            return Err(Error::Recipe(format!(
                "{} is of a run with another model, recipe or data; name another --output",
                path.display()
            )));
        }
        let file = SafeTensors::open(&path.join(PARAMETERS))?;
        if file.tensors().len() != names.len() {
            return Err(damaged(format!("{} parameters where {} are trained", file.tensors().len(), names.len())));
        }
        let parameters = names.iter().map(|name| Ok(file.weight(name)?.to_f32())).collect::<Result<_>>()?;
        Ok(Some(Checkpoint { state, parameters, optimizer: read(OPTIMIZER)? }))
    }
}

/// Refuses a folder that holds a run already: what it has learned is not written over.
///
/// # Errors
/// It does, or it cannot be read.
pub fn refuse_used(folder: &Path) -> Result<()> {
    let logged = std::fs::metadata(folder.join("log.jsonl")).is_ok_and(|log| log.len() > 0);
    let results = ["adapter_model.safetensors", "model"].iter().any(|name| folder.join(name).exists());
    if logged || results || !checkpoints(folder)?.is_empty() {
        return Err(Error::Recipe(format!(
            "{} holds a run already: --resume goes on with it, another --output begins one",
            folder.display()
        )));
    }
    Ok(())
}

/// A folder's checkpoints by their update.
fn checkpoints(folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read the folder", folder)(error)),
    };
    let numbered = entries.flatten().filter_map(|entry| {
        let step = entry.file_name().to_str()?.strip_prefix(PREFIX)?.parse().ok()?;
        Some((step, entry.path()))
    });
    Ok(numbered.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_and_others_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["a".to_owned(), "b".to_owned()];
        let checkpoint = |step| Checkpoint {
            state: State { step, run: "one".into(), best: Some((1.5, 3)) },
            parameters: vec![vec![step as f32, f32::MIN_POSITIVE], vec![-0.0]],
            optimizer: vec![1, 2, 3],
        };
        assert_eq!(Checkpoint::newest(folder.path(), &names, "one").unwrap(), None);
        assert!(refuse_used(folder.path()).is_ok() && refuse_used(&folder.path().join("none")).is_ok());
        for step in [4, 12, 12] {
            checkpoint(step).save(folder.path(), &names).unwrap();
        }
        assert_eq!(checkpoints(folder.path()).unwrap().len(), 1);
        assert!(refuse_used(folder.path()).unwrap_err().to_string().contains("--resume goes on"));
        assert_eq!(Checkpoint::newest(folder.path(), &names, "one").unwrap(), Some(checkpoint(12)));
        let error = Checkpoint::newest(folder.path(), &names, "two").unwrap_err().to_string();
        assert!(error.contains("another model, recipe or data") && error.contains("--output"), "{error}");
        let error = Checkpoint::newest(folder.path(), &names[..1], "one").unwrap_err().to_string();
        assert!(error.contains("2 parameters where 1 are trained"), "{error}");
        std::fs::write(folder.path().join("checkpoint-00000012/state.json"), "{").unwrap();
        let error = Checkpoint::newest(folder.path(), &names, "one").unwrap_err().to_string();
        assert!(error.contains("state.json") && error.contains("remove it"), "{error}");
    }
}

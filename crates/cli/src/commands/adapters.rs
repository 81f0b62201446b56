//! The flag that puts adapters on a model.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use porism_models::adapter::{Adapter, Base, attach_to_all};
use porism_models::{Decoder, ModelSource};

use super::figures::thousands;
use crate::context::{Context, say, threads};

/// An adapter, and the factor on its scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Scaled {
    pub path: PathBuf,
    pub factor: f32,
}

impl FromStr for Scaled {
    type Err = String;

    /// `PATH` or `PATH:SCALE`. A path that is there is meant as it stands, colon and all.
    fn from_str(text: &str) -> Result<Scaled, String> {
        let whole = Scaled { path: text.into(), factor: 1.0 };
        if whole.path.exists() {
            return Ok(whole);
        }
        let scaled = text.rsplit_once(':').and_then(|(path, factor)| Some((path, factor.parse::<f32>().ok()?)));
        match scaled {
            Some((path, factor)) if Path::new(path).exists() => Ok(Scaled { path: path.into(), factor }),
            _ => Err("there is no such folder or file".into()),
        }
    }
}

impl std::fmt::Display for Scaled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.factor)
    }
}

/// Adapters that run beside the weights, unmerged.
#[derive(Args, Clone, Debug, Default)]
pub struct AdapterArgs {
    /// Run with an adapter, a PEFT folder or a GGUF file, at SCALE times its own scale; several add up
    #[arg(long = "adapter", value_name = "PATH[:SCALE]")]
    adapters: Vec<Scaled>,
}

impl AdapterArgs {
    /// The adapters.
    pub fn given(&self) -> &[Scaled] {
        &self.adapters
    }

    /// The flags again, for another process.
    pub fn words(&self) -> impl Iterator<Item = std::ffi::OsString> + '_ {
        self.adapters.iter().flat_map(|scaled| {
            let mut path = scaled.path.clone().into_os_string();
            path.push(format!(":{}", scaled.factor));
            ["--adapter".into(), path]
        })
    }
}

/// Opens adapters for a base.
pub fn open(adapters: &[Scaled], base: &Base<'_>) -> Result<Vec<(Adapter, f32)>> {
    let one = |scaled: &Scaled| Ok((Adapter::open(&scaled.path, base)?, scaled.factor));
    adapters.iter().map(one).collect()
}

/// Opens adapters and puts them on a decoder.
pub fn put_on(adapters: &[Scaled], source: &ModelSource, decoder: &mut Decoder, context: &Context) -> Result<()> {
    if adapters.is_empty() {
        return Ok(());
    }
    let adapters = open(adapters, &Base::new(source, decoder)?)?;
    if context.verbose {
        for (adapter, factor) in &adapters {
            let numbers = thousands(adapter.parameters() as u64);
            say(&format!("verbose: adapter {} with {numbers} numbers, at {factor}", adapter.name));
        }
    }
    let (pool, isa) = threads(None);
    Ok(attach_to_all(&pool, isa, decoder, &adapters)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scale_stands_behind_the_last_colon() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::create_dir(path("one")).unwrap();
        std::fs::create_dir(path("one:2")).unwrap();
        let read = |text: String| text.parse::<Scaled>();
        assert_eq!(read(path("one")).unwrap().factor, 1.0);
        assert_eq!(read(path("one:0.5")).unwrap(), Scaled { path: path("one").into(), factor: 0.5 });
        // A folder of that name comes first.
        assert_eq!(read(path("one:2")).unwrap(), Scaled { path: path("one:2").into(), factor: 1.0 });
        assert_eq!(read(path("one:2:-3")).unwrap(), Scaled { path: path("one:2").into(), factor: -3.0 });
        for wrong in ["none", "none:1", "one:x", "one:"] {
            assert!(read(path(wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn flags_read_back_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let args = AdapterArgs { adapters: vec![Scaled { path: folder.path().into(), factor: 0.1 }] };
        let words: Vec<_> = args.words().collect();
        assert_eq!(words[1].to_str().unwrap().parse::<Scaled>().unwrap(), args.adapters[0]);
    }
}

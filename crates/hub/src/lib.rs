//! Fetching models: the catalogue, the cache, checksums, resumable downloads.
//!
//! Two steps, so that a caller can say what will happen before it happens:
//! [`resolve`] turns the name given to `-m` into a path, or into a [`Plan`] (what is missing, how
//! large, from where), and [`pull`] carries the plan out. A name is an existing path, a name of
//! the [`catalogue`], or a model hub id `owner/repo`, `owner/repo:quant`, `owner/repo/file`.
//!
//! # Layout of the cache
//!
//! ```text
//! <cache>/models/<name>/...                  files of a catalogue entry
//! <cache>/hub/<owner>--<repo>/main/...       files of a hub repository
//!                              .porism.json  which files each pick of that repository has
//!         <any of the two>/.lock             held while something is fetched into the folder
//!                          <file>.partial    an unfinished download, resumed next time
//!                          .pip/             pip's work, removed when it is done
//! ```
//!
//! A finished file is never written in place: bytes go to the `.partial` file, whose size and
//! SHA-256 are checked before it is synced and renamed. A cached file's size is checked at each
//! use, its SHA-256 by [`verify`].
//!
//! The library prints nothing and reads no environment variables: paths, token, endpoint and
//! the pip commands to try come in through [`CacheDir`] and [`Network`].

mod address;
mod cache;
mod catalogue;
mod dataset;
mod download;
mod error;
mod name;
mod network;
mod partial;
mod pick;
mod pip;
mod pull;
mod record;
mod repository;

pub use cache::{CacheDir, Installed, list, verify};
pub use catalogue::{Entry, File, Source, catalogue, default_model, find};
pub use dataset::dataset_file;
pub use error::{Error, Result};
pub use name::{Resolved, resolve};
pub use network::{Network, PipCommand, Progress, Proxy, Silent};
pub use pull::{Plan, ensure_default_model, pull};

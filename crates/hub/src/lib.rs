//! Fetching models: catalogue, cache, checksums, resumable downloads.

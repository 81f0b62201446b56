//! Results on stdout.

use std::io::{ErrorKind, Write};

use anyhow::Result;
use porism_formats::AtomicFile;
use porism_report::{Page, Table};
use serde::Serialize;

/// A line on stdout.
pub fn line(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Text on stdout as it is, at once.
pub fn text(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A table on stdout.
pub fn table(table: &Table) -> Result<()> {
    table.lines().iter().try_for_each(|text| line(text))
}

/// A page of HTML into a file that was created before the work began, and appears when it is whole.
pub fn page(page: &Page, mut out: AtomicFile) -> Result<()> {
    out.write_all(page.html().as_bytes())?;
    Ok(out.commit()?)
}

/// An object as JSON on stdout.
pub fn json(value: &impl Serialize) -> Result<()> {
    line(&serde_json::to_string_pretty(value)?)
}

/// Whether the error is that nobody reads our output any more.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<std::io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}

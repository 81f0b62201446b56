//! `porism models`: what is in the cache, and what could be.

use anyhow::Result;
use clap::Args;

use crate::context::Context;
use crate::output;

/// List the models in the cache and those of the catalogue
#[derive(Args)]
#[command(after_help = "Examples:
  porism models
  porism models --json      [{name, path, bytes}] of the models in the cache")]
pub struct ModelsArgs {
    /// Print the cached models as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: ModelsArgs, context: &Context) -> Result<()> {
    let installed = porism_hub::list(&context.cache)?;
    if args.json {
        return output::json(&installed);
    }
    let catalogue = porism_hub::catalogue();
    let width = installed.iter().map(|m| m.name.len()).chain(catalogue.iter().map(|e| e.name.len())).max().unwrap_or(0);
    for model in &installed {
        output::line(&format!("{:width$}  {:>9}  {}", model.name, megabytes(model.bytes), model.path.display()))?;
    }
    for entry in catalogue.iter().filter(|e| installed.iter().all(|m| m.name != e.name)) {
        let size = megabytes(entry.bytes());
        output::line(&format!("{:width$}  {size:>9}  not fetched: {} ({})", entry.name, entry.about, entry.license))?;
    }
    Ok(())
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

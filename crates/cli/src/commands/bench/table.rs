//! The report as a table for people.

use anyhow::Result;
use porism_measure::bench::{Report, Test};
use porism_measure::limits::Limits;
use porism_models::cpu::Activations;

use crate::output;

/// Prints a report; `cores` are those that the machine was measured with.
pub(super) fn print(report: &Report, cores: usize) -> Result<()> {
    let Limits { read_gb_per_second, f32_gflops, int8_gops } = report.machine;
    output::line(&report.model)?;
    output::line(&format!(
        "machine: {cores} cores, {}; reads {read_gb_per_second:.1} GB/s, {f32_gflops:.0} Gflop/s in f32, {int8_gops:.0} Gop/s in int8",
        report.isa
    ))?;
    let head = [
        "test",
        "n",
        "depth",
        "threads",
        "kv",
        "activations",
        "tokens/s",
        "GB/s",
        "of read",
        "of peak",
        "peak MB",
        "anon MB",
        "cache MB",
    ];
    let mut table = vec![head.map(str::to_string)];
    for row in &report.rows {
        let spec = &row.spec;
        let peak = match spec.activations {
            Activations::F32 => f32_gflops,
            Activations::Int8 => int8_gops,
        };
        table.push([
            spec.test.name().to_string(),
            spec.n.to_string(),
            spec.depth.to_string(),
            spec.threads.to_string(),
            spec.kv_type.name().to_string(),
            spec.activations.name().to_string(),
            format!("{:.1}", row.tokens_per_second),
            format!("{:.2}", row.gb_per_second),
            percent(row.gb_per_second / read_gb_per_second),
            if row.gops_per_second > 0.0 { percent(row.gops_per_second / peak) } else { "-".to_string() },
            megabytes(row.memory.peak_rss_bytes),
            megabytes(row.memory.peak_anonymous_bytes),
            megabytes(row.cache_bytes),
        ]);
    }
    for line in aligned(&table) {
        output::line(&line)?;
    }
    for row in report.rows.iter().filter(|r| r.spec.test == Test::FirstToken) {
        output::line(&format!(
            "first token after {:.3} s ({} prompt tokens, {} threads, {} activations)",
            1.0 / row.tokens_per_second,
            row.spec.n,
            row.spec.threads,
            row.spec.activations.name()
        ))?;
    }
    output::line("of read: of the machine's read bandwidth; of peak: the projections' share of its arithmetic")?;
    output::line("anon: the peak's part that is no mapped file; the cache is a part of that")
}

fn megabytes(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / 1e6)
}

fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// Lines with aligned columns: the first to the left, the others to the right.
fn aligned<const N: usize>(table: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).enumerate().map(|(i, (cell, width))| match i {
            0 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    table.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let cells = |a: &str, b: &str| [a.to_string(), b.to_string()];
        assert_eq!(aligned(&[cells("test", "n"), cells("x", "512")]), ["test    n", "x     512"]);
    }
}

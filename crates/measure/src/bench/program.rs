//! The first-token row: a whole program, timed from outside.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::{Memory, Row, RowSpec, Work, median};
use crate::{Error, Result};

/// Starts the program once to warm up and `repeat` times for the median, each time from its start until the
/// first byte on its stdout, and ends it then. `command` must give the same command each time; its standard
/// streams are replaced. The peak is the largest that a run had when that byte came; `cache_bytes` is the cache's part
/// of it, which cannot be seen from outside.
///
/// # Errors
/// The program cannot be started or ends without writing anything.
pub fn first_token(
    command: &dyn Fn() -> Command,
    spec: &RowSpec,
    work: &Work,
    cache_bytes: u64,
    repeat: usize,
) -> Result<Row> {
    let mut seconds = Vec::with_capacity(repeat);
    let mut peak = Memory::default();
    for run in 0..=repeat {
        let (time, memory) = once(command())?;
        if run > 0 {
            seconds.push(time);
            peak = peak.max(memory);
        }
    }
    Ok(Row::new(spec, work, median(seconds), peak, cache_bytes))
}

/// Ends the program however the measurement ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Seconds to the first byte, and the peak memory then.
fn once(mut command: Command) -> Result<(f64, Memory)> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = Instant::now();
    let mut running = Running(command.spawn().map_err(Error::io("start the measured program"))?);
    let mut stdout = running.0.stdout.take();
    let mut byte = [0];
    let read = match &mut stdout {
        Some(stdout) => stdout.read(&mut byte).map_err(Error::io("read the measured program's output"))?,
        None => 0,
    };
    let time = started.elapsed().as_secs_f64();
    if read == 0 {
        let mut said = String::new();
        if let Some(stderr) = running.0.stderr.take() {
            // What can be had of it; the error is reported either way.
            let _ = stderr.take(1 << 16).read_to_string(&mut said);
        }
        let status = running.0.wait().map_err(Error::io("wait for the measured program"))?;
        return Err(Error::Program { status: status.to_string(), said: said.trim_end().to_string() });
    }
    // The rest of the answer is still being made, so the process is there to be asked.
    Ok((time, Memory::of(&running.0.id().to_string())))
}

#[cfg(all(test, unix))]
mod tests {
    use porism_models::cpu::{Activations, KvType};

    use super::*;
    use crate::bench::Test;

    fn spec() -> RowSpec {
        RowSpec {
            test: Test::FirstToken,
            n: 9,
            depth: 0,
            threads: 1,
            kv_type: KvType::F16,
            activations: Activations::Int8,
        }
    }

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn the_first_byte_ends_the_clock_and_the_program() {
        // It would run for an hour, were it not ended.
        let work = Work { bytes: 1000, projection_operations: 0 };
        let row = first_token(&|| shell("sleep 0.05; echo x; exec sleep 3600"), &spec(), &work, 77, 2).unwrap();
        assert!(row.tokens_per_second <= 20.0 && row.tokens_per_second > 0.0, "{row:?}");
        assert!((row.gb_per_second - 1e-6 * row.tokens_per_second).abs() < 1e-12);
        assert_eq!(row.cache_bytes, 77);
        if cfg!(target_os = "linux") {
            assert!(row.memory.peak_rss_bytes > 100_000, "{row:?}");
        }
    }

    #[test]
    fn silence_is_an_error_with_what_was_said() {
        let error =
            first_token(&|| shell("echo no such model >&2; exit 3"), &spec(), &Work::default(), 0, 1).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("no such model") && text.contains('3'), "{text}");
    }
}

//! The busy neighbour of the contention rows: a process that keeps one core to itself for as long as it is wanted.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use porism_kernels::affinity;

use crate::Error;

/// A process that keeps a core busy; it ends when this is dropped, or when this process ends in whatever way.
#[derive(Debug)]
pub struct Neighbour {
    process: Child,
    core: usize,
}

impl Neighbour {
    /// Starts a neighbour on the last core that this process may use, and waits until it is there. `command` must
    /// make the command whose process calls [`keep_busy`] with the given core and writes a byte to its stdout when
    /// it is `ready`.
    ///
    /// # Errors
    /// The system does not tell which cores there are, or the process does not start or ends at once.
    pub fn start(command: &dyn Fn(usize) -> Command) -> Result<Neighbour, Error> {
        let core = affinity::allowed_cores().last().copied();
        let core =
            core.ok_or_else(|| Error::Options("the system does not tell which cores may be kept busy".into()))?;
        let mut command = command(core);
        // Its stdin is a pipe whose other end we hold: it closes with us.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let process = command.spawn().map_err(Error::io("start a busy neighbour"))?;
        let mut neighbour = Neighbour { process, core };
        let mut byte = [0];
        let read = match &mut neighbour.process.stdout {
            Some(stdout) => stdout.read(&mut byte).map_err(Error::io("hear from the busy neighbour"))?,
            None => 0,
        };
        if read == 0 {
            let status = neighbour.process.wait().map_err(Error::io("wait for the busy neighbour"))?;
            return Err(Error::Program { status: status.to_string(), said: String::new() });
        }
        Ok(neighbour)
    }

    /// The core that it keeps busy.
    pub fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Pins this process to a core, says `ready`, and keeps the core busy until stdin is at its end.
///
/// # Errors
/// The core cannot be had, or `ready` fails.
pub fn keep_busy<E: From<Error>>(core: usize, ready: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
    affinity::stay_on(core).map_err(Error::io(format!("stay on core {core}")))?;
    let watch = std::thread::spawn(|| {
        // Whatever comes, an error too, means that nobody holds the other end.
        let _ = std::io::stdin().read(&mut [0]);
    });
    ready()?;
    let mut number = 1u64;
    while !watch.is_finished() {
        for _ in 0..1 << 16 {
            number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        }
    }
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// Whether a process runs; one that ended and was waited for is gone.
    fn alive(process: u32) -> bool {
        std::path::Path::new(&format!("/proc/{process}")).exists()
    }

    #[test]
    fn a_neighbour_ends_with_its_handle() {
        let neighbour = Neighbour::start(&|_| shell("echo x; exec sleep 3600")).expect("a process");
        let process = neighbour.process.id();
        assert!(alive(process) && affinity::allowed_cores().contains(&neighbour.core()));
        drop(neighbour);
        assert!(!alive(process));
    }

    #[test]
    fn a_neighbour_that_does_not_come_is_an_error() {
        let error = Neighbour::start(&|_| shell("exit 3")).expect_err("it said nothing");
        assert!(error.to_string().contains('3'), "{error}");
    }
}

//! What the caller passes in: how to reach the outside, and whom to tell about progress.

use std::ffi::OsString;
use std::time::Duration;

pub use ureq::Proxy;

/// How to reach the model hub and pip. The default uses the public hub, no token, no proxy.
#[derive(Clone, Debug)]
pub struct Network {
    /// Base address of the hub (`HF_ENDPOINT`), `http://` or `https://`.
    pub endpoint: String,
    /// Access token for gated or private repositories (`HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`).
    /// It is sent to the endpoint's own scheme, host and port only, never to a redirect's.
    pub token: Option<String>,
    /// Fetch nothing: only what is cached can be used.
    pub offline: bool,
    /// A proxy for HTTP. A binary that honours the usual variables passes [`Proxy::try_from_env`].
    pub proxy: Option<Proxy>,
    /// The pip commands to try, in order; the first that exists is used.
    pub pip: Vec<PipCommand>,
    /// Longest wait for a name look-up, for a connection, and for the first byte of an answer.
    /// At most 3 s is used while another source remains to be tried.
    pub connect_timeout: Duration,
    /// Longest wait for the next bytes of a body.
    pub idle_timeout: Duration,
    /// How often a request is tried in all. A try that brought a megabyte starts the count anew.
    pub attempts: u32,
    /// The pause after the first failure; it doubles with each further one.
    pub backoff: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            endpoint: "https://huggingface.co".into(),
            token: None,
            offline: false,
            proxy: None,
            pip: PipCommand::usual(),
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(30),
            attempts: 5,
            backoff: Duration::from_millis(500),
        }
    }
}

/// One way of starting pip: a program and the arguments before `download`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PipCommand {
    /// The program, looked up in `PATH` unless it is a path.
    pub program: OsString,
    /// Arguments that come first, such as `-m pip`.
    pub args: Vec<OsString>,
}

impl PipCommand {
    /// A command from its words.
    pub fn new(program: impl Into<OsString>, args: &[&str]) -> Self {
        Self { program: program.into(), args: args.iter().map(Into::into).collect() }
    }

    /// The usual ways: `python3 -m pip`, `pip3`, `pip`, `python -m pip`.
    pub fn usual() -> Vec<Self> {
        vec![
            Self::new("python3", &["-m", "pip"]),
            Self::new("pip3", &[]),
            Self::new("pip", &[]),
            Self::new("python", &["-m", "pip"]),
        ]
    }
}

/// Hears what a pull is doing. One `start` ... `finish` pair for each file, in order.
pub trait Progress {
    /// A transfer begins; `total` is its size in bytes where that is known.
    fn start(&mut self, what: &str, total: Option<u64>);
    /// So many bytes of the transfer are there now. May fall, when a transfer starts over.
    fn at(&mut self, bytes: u64);
    /// The transfer has ended, well or badly.
    fn finish(&mut self);
    /// Something that the user should read: a retry, a fallback, a command that is run.
    fn message(&mut self, text: &str);
}

/// A [`Progress`] that says nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn start(&mut self, _: &str, _: Option<u64>) {}
    fn at(&mut self, _: u64) {}
    fn finish(&mut self) {}
    fn message(&mut self, _: &str) {}
}

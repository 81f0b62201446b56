//! What the tests stand in for the outside with: a hub on this machine, wheels, pip scripts.

#![allow(dead_code)] // each test binary uses a part of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use porism_hub::{Network, PipCommand, Progress};
use sha2::{Digest, Sha256};

/// A request as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) token: Option<String>,
    /// Where a `Range: bytes=N-` starts.
    pub(crate) from: Option<usize>,
}

/// What the server answers.
#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub(crate) cut: Option<usize>,
    /// Do not say how long the body is.
    pub(crate) unsized_body: bool,
}

pub(crate) fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

pub(crate) fn text(body: impl Into<String>) -> Reply {
    Reply { status: 200, body: body.into().into_bytes(), ..Reply::default() }
}

pub(crate) fn redirect(to: String) -> Reply {
    Reply { status: 302, headers: vec![("Location", to)], ..Reply::default() }
}

/// A file, from where the request wants it.
pub(crate) fn ranged(request: &Request, bytes: &[u8]) -> Reply {
    match request.from {
        None => Reply { status: 200, body: bytes.to_vec(), ..Reply::default() },
        Some(from) if from >= bytes.len() => status(416),
        Some(from) => {
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            let headers = vec![("Content-Range", range)];
            Reply { status: 206, headers, body: bytes[from..].to_vec(), ..Reply::default() }
        }
    }
}

/// A server on a free port of this machine; one connection at a time, one request each.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Request>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `answer` gets each request and how many came before it.
    pub(crate) fn start(answer: impl Fn(&Request, usize) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (seen_by, stopped) = (seen.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client that gives up is a part of some tests.
                let _ = serve(connection.unwrap(), &answer, &seen_by);
            }
        });
        Self { address, seen, stop, thread: Some(thread) }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

fn serve(
    stream: TcpStream,
    answer: &impl Fn(&Request, usize) -> Reply,
    seen: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    let mut lines = BufReader::new(stream.try_clone()?.take(64 << 10)).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_string();
    let mut request = Request { path, token: None, from: None };
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.token = Some(value.to_string()),
            "range" => {
                let from = value.strip_prefix("bytes=").and_then(|v| v.strip_suffix('-')).unwrap();
                request.from = Some(from.parse().unwrap());
            }
            _ => {}
        }
    }
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let reply = answer(&request, before);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", reply.status);
    if !reply.unsized_body {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let mut stream = stream;
    stream.write_all(head.as_bytes())?;
    stream.write_all(b"\r\n")?;
    stream.write_all(&reply.body[..reply.cut.unwrap_or(reply.body.len())])
}

/// A [`Network`] that talks to this server only, and quickly.
pub(crate) fn network(endpoint: &str) -> Network {
    Network {
        endpoint: endpoint.into(),
        pip: Vec::new(),
        connect_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(10),
        backoff: Duration::from_millis(1),
        ..Network::default()
    }
}

/// An address where nobody listens.
pub(crate) fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Keeps what it hears.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) messages: Vec<String>,
    pub(crate) started: Vec<(String, Option<u64>)>,
    pub(crate) finished: usize,
    pub(crate) last: u64,
}

impl Progress for Heard {
    fn start(&mut self, what: &str, total: Option<u64>) {
        self.started.push((what.into(), total));
    }
    fn at(&mut self, bytes: u64) {
        self.last = bytes;
    }
    fn finish(&mut self) {
        self.finished += 1;
    }
    fn message(&mut self, text: &str) {
        self.messages.push(text.into());
    }
}

/// Bytes that do not repeat.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A listing in the hub's form; large files have an LFS checksum, small ones do not.
pub(crate) fn listing(files: &[(&str, &[u8], bool)]) -> String {
    let sibling = |(name, bytes, lfs): &(&str, &[u8], bool)| {
        let mut sibling = serde_json::json!({"rfilename": name, "size": bytes.len()});
        if *lfs {
            let sum = sha256(bytes);
            sibling["lfs"] = serde_json::json!({"sha256": sum, "size": bytes.len(), "pointerSize": 134});
        }
        sibling
    };
    let siblings: Vec<_> = files.iter().map(sibling).collect();
    serde_json::json!({"id": "a/b", "sha": COMMIT, "siblings": siblings}).to_string()
}

/// Every file below a folder that is not a lock, by path relative to it.
pub(crate) fn files_below(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, root: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, root, found);
            } else if entry.file_name() != ".lock" {
                found.push(path.strip_prefix(root).unwrap().to_string_lossy().into_owned());
            }
        }
    }
    let mut found = Vec::new();
    walk(dir, dir, &mut found);
    found.sort();
    found
}

/// A shell script that stands in for `python3 -m pip`.
pub(crate) fn pip_script(dir: &Path, body: &str) -> PipCommand {
    use std::os::unix::fs::PermissionsExt;
    let path: PathBuf = dir.join("fake-pip");
    std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Through the shell: a script that another thread still has open cannot be run (ETXTBSY).
    PipCommand::new("sh", &[path.to_str().unwrap()])
}

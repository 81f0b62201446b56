//! HTTP: requests to the hub with its token, redirects followed by hand, and files that resume.

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use ureq::http::{Response, header};
use ureq::{Agent, Body};

use crate::address::{encode, join, origin};
use crate::catalogue::File;
use crate::partial::Partial;
use crate::{Error, Network, Progress, Result};

/// A listing is a few hundred bytes a file; the largest repositories have tens of thousands.
const LISTING_LIMIT: u64 = 32 << 20;
const REDIRECTS: usize = 8;
/// A try that brought this much is a success of sorts: the count of failures starts anew.
const REAL_PROGRESS: u64 = 1 << 20;

pub(crate) struct Client<'a> {
    network: &'a Network,
    agent: Agent,
    /// Another source waits: give up at once on anything but a broken transfer.
    impatient: bool,
}

impl<'a> Client<'a> {
    pub(crate) fn new(network: &'a Network, impatient: bool) -> Result<Self> {
        let endpoint = &network.endpoint;
        let secure = endpoint.starts_with("https://");
        if !secure && !endpoint.starts_with("http://") {
            let why = "the hub's address (HF_ENDPOINT) must start with http:// or https://".into();
            return Err(Error::Answer { url: endpoint.clone(), why });
        }
        let patience = if impatient { Duration::from_secs(3) } else { Duration::MAX };
        let connect = Some(network.connect_timeout.min(patience));
        let config = Agent::config_builder()
            .https_only(secure)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            // A compressed body could not be resumed by offsets into the file.
            .accept_encoding("identity")
            .user_agent(concat!("porism/", env!("CARGO_PKG_VERSION")))
            .proxy(network.proxy.clone())
            .timeout_resolve(connect)
            .timeout_connect(connect)
            .timeout_recv_response(connect)
            .timeout_per_read(Some(network.idle_timeout))
            .build();
        Ok(Self { network, agent: config.into(), impatient })
    }

    /// The text at a path of the endpoint, with the address that was asked.
    pub(crate) fn text(&self, path: &str) -> Result<(String, String)> {
        let url = self.url(path);
        let mut failures = 0;
        loop {
            let answer = self.get(&url, 0).and_then(|mut response| {
                let body = response.body_mut().with_config().limit(LISTING_LIMIT);
                body.read_to_string().map_err(|e| unreachable(&url, e))
            });
            match answer {
                Ok(text) => return Ok((url, text)),
                Err(e) => self.pause(e, &mut failures)?,
            };
        }
    }

    /// Fetches one file of a repository into `target`; gives its SHA-256.
    pub(crate) fn file(
        &self,
        repository: &str,
        revision: &str,
        file: &File,
        target: PathBuf,
        progress: &mut dyn Progress,
    ) -> Result<String> {
        let path: Vec<String> = file.path.split('/').map(encode).collect();
        let revision = encode(revision);
        let url = self.url(&format!("/{repository}/resolve/{revision}/{}", path.join("/")));
        // Without a checksum nothing tells whether the rest of a file belongs to its beginning.
        let mut resume = file.sha256.is_some();
        loop {
            let mut partial = Partial::open(target.clone(), resume)?;
            progress.start(&file.path, Some(file.bytes));
            let transferred = self.transfer(&url, file, &mut partial, progress);
            progress.finish();
            let resumed = match transferred {
                Ok(resumed) => resumed,
                Err(e) => {
                    partial.leave()?;
                    return Err(e);
                }
            };
            match partial.commit(file) {
                // What lay there from an earlier try may have been another file's beginning.
                Err(e @ Error::Checksum { .. }) if resumed && resume => {
                    progress.message(&format!("{e}\nfetching {} from the start", file.path));
                    resume = false;
                }
                result => return result,
            }
        }
    }

    /// Fills `partial` to the file's size; tells whether it had a beginning already.
    fn transfer(&self, url: &str, file: &File, partial: &mut Partial, progress: &mut dyn Progress) -> Result<bool> {
        if partial.len() > file.bytes {
            partial.restart()?;
        }
        let resumed = partial.len() > 0;
        let mut failures = 0;
        while partial.len() < file.bytes {
            progress.at(partial.len());
            let before = partial.len();
            match self.stream(url, file, partial, progress) {
                Ok(()) => break,
                Err(e) => {
                    if partial.len() >= before.saturating_add(REAL_PROGRESS) {
                        failures = 0;
                    }
                    let text = e.to_string();
                    self.pause(e, &mut failures)?;
                    if file.sha256.is_none() {
                        partial.restart()?;
                    }
                    progress.message(&format!("{text}\ntrying again"));
                }
            }
        }
        Ok(resumed)
    }

    /// One request for what is missing.
    fn stream(&self, url: &str, file: &File, partial: &mut Partial, progress: &mut dyn Progress) -> Result<()> {
        let broken = |at: u64, reason: String| Error::Interrupted { url: url.into(), at, total: file.bytes, reason };
        let from = partial.len();
        let response = self.get(url, from)?;
        let range = response.headers().get(header::CONTENT_RANGE).and_then(|v| v.to_str().ok());
        match response.status().as_u16() {
            206 if range.is_some_and(|r| r.starts_with(&format!("bytes {from}-"))) => {}
            // 416, or another range than the one asked for: no use resuming this one.
            206 | 416 => {
                partial.restart()?;
                return Err(broken(0, format!("the server cannot resume at byte {from}")));
            }
            _ => {
                // A login page, or another file: not worth reading, nor losing what is here.
                let length = response.headers().get(header::CONTENT_LENGTH);
                let length = length.and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
                if let Some(length) = length.filter(|&length: &u64| length != file.bytes) {
                    let why = format!("the file has {length} bytes, expected {}", file.bytes);
                    return Err(Error::Answer { url: url.into(), why });
                }
                if from > 0 {
                    partial.restart()?;
                }
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match body.read(&mut buffer) {
                Ok(0) if partial.len() < file.bytes => {
                    return Err(broken(partial.len(), "the connection was closed".into()));
                }
                Ok(0) => return Ok(()),
                Ok(n) => {
                    // One byte too many is enough for `commit` to see that the file is wrong.
                    let room = (file.bytes - partial.len()).saturating_add(1);
                    let n = n.min(usize::try_from(room).unwrap_or(n));
                    partial.write(&buffer[..n])?;
                    if partial.len() > file.bytes {
                        return Ok(());
                    }
                    progress.at(partial.len());
                }
                Err(e) => return Err(broken(partial.len(), e.to_string())),
            }
        }
    }

    /// One GET, redirects followed: a success (200, 206) or 416, all else is an error. The token
    /// goes with the request for as long as scheme, host and port stay the endpoint's.
    fn get(&self, url: &str, from: u64) -> Result<Response<Body>> {
        let mut token = self.network.token.as_deref().map(str::trim).filter(|t| !t.is_empty());
        let with_token = token.is_some();
        let mut at = url.to_string();
        for _ in 0..=REDIRECTS {
            let mut request = self.agent.get(&at);
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header(header::RANGE, format!("bytes={from}-"));
            }
            let response = request.call().map_err(|e| unreachable(url, e))?;
            let status = response.status().as_u16();
            let known = response.headers().get("x-error-code").and_then(|v| v.to_str().ok());
            let url = url.to_string();
            match status {
                200 | 206 | 416 => return Ok(response),
                301 | 302 | 303 | 307 | 308 => {
                    let location = response.headers().get(header::LOCATION);
                    let next = location.and_then(|v| v.to_str().ok()).and_then(|to| join(&at, to));
                    let why = "a redirect leads nowhere".into();
                    let next = next.ok_or(Error::Answer { url, why })?;
                    if origin(&next) != origin(&at) {
                        token = None;
                    }
                    at = next;
                }
                404 => return Err(Error::NotFound { url }),
                // Without a token the hub gives this reason for private repositories too.
                401 if known == Some("RepoNotFound") && with_token => {
                    return Err(Error::NotFound { url });
                }
                401 | 403 => {
                    return Err(Error::Denied { url, status, with_token });
                }
                _ => return Err(Error::Status { url, status }),
            }
        }
        Err(Error::Answer { url: url.into(), why: "too many redirects".into() })
    }

    /// After a failure: sleeps if another try makes sense, else hands the error back.
    fn pause(&self, error: Error, failures: &mut u32) -> Result<()> {
        let worth_it = match &error {
            Error::Interrupted { .. } => true,
            Error::Unreachable { lasting, .. } => !lasting && !self.impatient,
            Error::Status { status, .. } => !self.impatient && (matches!(status, 408 | 429) || *status >= 500),
            _ => false,
        };
        *failures += 1;
        if !worth_it || *failures >= self.network.attempts {
            return Err(error);
        }
        std::thread::sleep(self.network.backoff.saturating_mul(1 << (*failures - 1).min(6)));
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.network.endpoint.trim_end_matches('/'))
    }
}

fn unreachable(url: &str, error: ureq::Error) -> Error {
    use ureq::Error as E;
    // The system's "no such host" has no error kind of its own, only the standard library's words.
    let no_host = |e: &std::io::Error| e.to_string().contains("failed to lookup address");
    let lasting = matches!(&error, E::Io(e) if no_host(e))
        || matches!(
            &error,
            E::HostNotFound
                | E::Http(_)
                | E::BadUri(_)
                | E::Tls(_)
                | E::Rustls(_)
                | E::Pem(_)
                | E::RequireHttpsOnly(_)
                | E::InvalidProxyUrl
                | E::BodyExceedsLimit(_)
        );
    Error::Unreachable { url: url.into(), reason: error.to_string(), lasting }
}

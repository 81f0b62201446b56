//! Web addresses: what a redirect leads to, whether it is still the same server, and how a file's
//! name is written in one.

use ureq::http::Uri;

/// Scheme, host and port.
pub(crate) fn origin(url: &str) -> Option<(String, String, u16)> {
    let uri: Uri = url.parse().ok()?;
    let scheme = uri.scheme_str()?.to_ascii_lowercase();
    let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    Some((scheme, uri.host()?.to_ascii_lowercase(), port))
}

/// A redirect's target: an address, or a path on the same host (the hub sends nothing else).
pub(crate) fn join(base: &str, location: &str) -> Option<String> {
    let scheme = base.split_once("://")?.0;
    if location.starts_with("//") {
        Some(format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        let authority: Uri = base.parse().ok()?;
        Some(format!("{scheme}://{}{location}", authority.authority()?))
    } else {
        location.contains("://").then(|| location.to_string())
    }
}

/// Percent-encodes a path segment: all but RFC 3986's unreserved characters.
pub(crate) fn encode(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_and_their_origins_told_apart() {
        let base = "https://hub.example/a/resolve/main/x";
        assert_eq!(join(base, "/b?c=d").as_deref(), Some("https://hub.example/b?c=d"));
        assert_eq!(join(base, "//cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(join(base, "https://cdn.example/b").as_deref(), Some("https://cdn.example/b"));
        assert_eq!(join(base, "b"), None);
        let same = |a, b| origin(a) == origin(b);
        assert!(same("https://h/x", "https://H:443/y"));
        assert!(!same("https://h/x", "http://h/x"));
        assert!(!same("http://h:1/x", "http://h:2/x"));
        assert!(!same("https://h/x", "https://h.evil/x"));
        // What stands before '@' is no host.
        assert!(!same("https://h/x", "https://h@evil/x"));
        assert_eq!(encode("a b#ü?.gguf"), "a%20b%23%C3%BC%3F.gguf");
    }
}

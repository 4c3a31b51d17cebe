//! A server's address, as people write it and as requests need it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use url::{Host, Url};

/// Where `sync-server` listens unless it is told otherwise.
pub const DEFAULT_SERVER: &str = "http://127.0.0.1:4400";

/// A server: `http` or `https`, a host, perhaps a port and a path prefix; nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServerUrl(Url);

/// Why a string is no server's address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerUrlError {
    /// Not a URL.
    #[error("`{text}` is no server address: {reason}")]
    Malformed {
        /// What was given.
        text: String,
        /// What the parser says.
        reason: String,
    },
    /// Some other protocol.
    #[error("`{0}` is no server address: it begins with neither http:// nor https://")]
    Scheme(String),
    /// A user name, a password, a query or a fragment; the address itself is not shown, because
    /// it may hold a secret.
    #[error("a server address holds no user name, password, query or fragment")]
    Extra,
}

impl ServerUrl {
    /// The server when nobody names one.
    pub fn default_server() -> Self {
        DEFAULT_SERVER.parse().expect("the constant is an address")
    }

    /// The address itself; its path ends without a slash.
    pub fn as_url(&self) -> &Url {
        &self.0
    }

    /// The address of a call: every segment is escaped, so none can reach another call.
    pub fn call<'a>(&self, segments: impl IntoIterator<Item = &'a str>) -> Url {
        let mut url = self.0.clone();
        url.path_segments_mut()
            .expect("http addresses have a path")
            .pop_if_empty()
            .extend(segments);
        url
    }

    /// Whether the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.0.host().is_some_and(|host| is_loopback(&host))
    }
}

impl FromStr for ServerUrl {
    type Err = ServerUrlError;

    /// Takes an address as people and `API_HOST` write it: without a scheme it is `http` on this
    /// machine and `https` anywhere else.
    fn from_str(s: &str) -> Result<Self, ServerUrlError> {
        let text = s.trim();
        let parse = |full: &str| {
            Url::parse(full).map_err(|error| ServerUrlError::Malformed {
                text: text.to_owned(),
                reason: error.to_string(),
            })
        };
        let mut url = if text.contains("://") {
            parse(text)?
        } else {
            let mut url = parse(&format!("https://{text}"))?;
            if url.host().is_some_and(|host| is_loopback(&host)) {
                // Parsed again rather than changed: port 443 is only `https`' default.
                url = parse(&format!("http://{text}"))?;
            }
            url
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(ServerUrlError::Scheme(text.to_owned()));
        }
        let has_extra = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        if has_extra {
            return Err(ServerUrlError::Extra);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
        Ok(Self(url))
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => IpAddr::from(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::from(*address).is_loopback(),
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl TryFrom<String> for ServerUrl {
    type Error = ServerUrlError;

    fn try_from(s: String) -> Result<Self, ServerUrlError> {
        s.parse()
    }
}

impl From<ServerUrl> for String {
    fn from(server: ServerUrl) -> String {
        server.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for (written, meant) in [
            ("http://127.0.0.1:4400", "http://127.0.0.1:4400"),
            ("http://127.0.0.1:4400/", "http://127.0.0.1:4400"),
            ("https://example.com/sync/", "https://example.com/sync"),
            ("example.com", "https://example.com"),
            ("example.com:4400/x", "https://example.com:4400/x"),
            ("localhost:4400", "http://localhost:4400"),
            ("127.0.0.1:443", "http://127.0.0.1:443"),
            ("[::1]:4400", "http://[::1]:4400"),
            (" HTTP://Example.com ", "http://example.com"),
        ] {
            let server: ServerUrl = written.parse().unwrap();
            assert_eq!(server.to_string(), meant);
            assert_eq!(meant.parse(), Ok(server), "{meant} means itself");
        }
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for bad in ["", "http://", "http://a b", "ftp://x", "ws://x", "x:99999"] {
            assert!(bad.parse::<ServerUrl>().is_err(), "{bad:?}");
        }
        for secret in [
            "http://u:pw@h",
            "http://u@h",
            "http://h/?token=pw",
            "http://h/#pw",
        ] {
            let error = secret.parse::<ServerUrl>().unwrap_err();
            assert_eq!(error, ServerUrlError::Extra, "{secret}");
            assert!(!error.to_string().contains("pw"));
        }
    }

    #[test]
    fn a_call_keeps_the_prefix_and_escapes_its_segments() {
        let call = |server: &str| {
            let server: ServerUrl = server.parse().unwrap();
            server.call(["api", "files", "../a b"]).to_string()
        };
        assert_eq!(call("http://h:1"), "http://h:1/api/files/..%2Fa%20b");
        assert_eq!(call("http://h/p/q"), "http://h/p/q/api/files/..%2Fa%20b");
    }
}

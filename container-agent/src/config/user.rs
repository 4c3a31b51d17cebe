//! The user's file: for each server a token and whom to trust for it, and the server last logged in to.

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret, ServerUrl, file};

/// `~/.config/uspark/config.json`, or wherever `XDG_CONFIG_HOME` puts it.
#[derive(Debug, Clone)]
pub struct UserConfig {
    path: PathBuf,
}

/// What the file holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Credentials {
    /// The server that commands use when none is named: the one last logged in to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<ServerUrl>,
    /// One token per server, under the server's address.
    #[serde(default)]
    pub tokens: BTreeMap<String, Secret>,
    /// The file of the authorities that are trusted for a server, under its address; absolute.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ca_certs: BTreeMap<String, PathBuf>,
}

impl UserConfig {
    /// Finds the file's place from the environment.
    pub fn from_environment() -> Result<Self, ConfigError> {
        let absolute = |name| {
            let path = PathBuf::from(env::var_os(name)?);
            // The XDG specification says to ignore a relative path.
            path.is_absolute().then_some(path)
        };
        let base = absolute("XDG_CONFIG_HOME")
            .or_else(|| Some(absolute("HOME")?.join(".config")))
            .ok_or(ConfigError::NoHome)?;
        Ok(Self::at(base.join("uspark/config.json")))
    }

    /// Uses the file at `path`.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Where the file is or would be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file; an absent one holds nothing.
    pub fn read(&self) -> Result<Credentials, ConfigError> {
        Ok(file::read(&self.path)?.unwrap_or_default())
    }

    /// Keeps `token` for `server`, and makes `server` the one that commands use; `ca_cert`, an absolute
    /// path, instead of the one that was kept for it, if one is given.
    pub fn remember(
        &self,
        server: &ServerUrl,
        token: &Secret,
        ca_cert: Option<&Path>,
    ) -> Result<(), ConfigError> {
        if let Some(directory) = self.path.parent() {
            file::make_private_directory(directory)?;
        }
        file::update(&self.path, |credentials: &mut Credentials| {
            credentials.server = Some(server.clone());
            credentials.tokens.insert(server.to_string(), token.clone());
            if let Some(ca_cert) = ca_cert {
                let ca_cert = ca_cert.to_owned();
                credentials.ca_certs.insert(server.to_string(), ca_cert);
            }
        })
    }

    /// Forgets the token for `server`, and whom to trust for it; says whether there was a token.
    pub fn forget(&self, server: &ServerUrl) -> Result<bool, ConfigError> {
        if self.read()?.token_for(server).is_none() {
            return Ok(false);
        }
        file::update(&self.path, |credentials: &mut Credentials| {
            credentials.tokens.remove(&server.to_string());
            credentials.ca_certs.remove(&server.to_string());
            if credentials.server.as_ref() == Some(server) {
                credentials.server = None;
            }
        })?;
        Ok(true)
    }
}

impl Credentials {
    /// The token kept for `server`.
    pub fn token_for(&self, server: &ServerUrl) -> Option<&Secret> {
        self.tokens.get(&server.to_string())
    }

    /// The file of the authorities that are trusted for `server`.
    pub fn ca_cert_for(&self, server: &ServerUrl) -> Option<&Path> {
        self.ca_certs.get(&server.to_string()).map(PathBuf::as_path)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn one_token_per_server_is_kept_and_forgotten() {
        let home = tempfile::tempdir().unwrap();
        let config = UserConfig::at(home.path().join("a/uspark/config.json"));
        let (first, second): (ServerUrl, ServerUrl) =
            ("http://one".parse().unwrap(), "http://two".parse().unwrap());
        assert!(!config.forget(&first).unwrap(), "nothing is there yet");
        assert_eq!(config.read().unwrap(), Credentials::default());

        let keep = |server, token: &str, ca_cert: Option<&str>| {
            let token = token.parse().unwrap();
            config.remember(server, &token, ca_cert.map(Path::new))
        };
        keep(&first, "t1", Some("/ca.pem")).unwrap();
        keep(&second, "t2", None).unwrap();
        keep(&first, "t3", None).unwrap();
        let kept = config.read().unwrap();
        assert_eq!(kept.server.as_ref(), Some(&first));
        assert_eq!(kept.token_for(&first).unwrap().expose(), "t3");
        assert_eq!(kept.token_for(&second).unwrap().expose(), "t2");
        assert_eq!(kept.ca_cert_for(&first), Some(Path::new("/ca.pem")));
        assert_eq!(kept.ca_cert_for(&second), None);

        assert!(config.forget(&first).unwrap());
        let left = config.read().unwrap();
        assert_eq!((left.server, left.tokens.len()), (None, 1));
        assert!(left.ca_certs.is_empty());
    }

    #[test]
    fn nobody_else_can_read_it() {
        let home = tempfile::tempdir().unwrap();
        let config = UserConfig::at(home.path().join("uspark/config.json"));
        let server = ServerUrl::default_server();
        let token = "t".parse().unwrap();
        config.remember(&server, &token, None).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(config.path()), 0o600);
        assert_eq!(mode(config.path().parent().unwrap()), 0o700);
    }
}

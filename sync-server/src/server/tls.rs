//! TLS in the server itself: the certificate and the key that an operator gave, and handshakes.
//!
//! Invariant: a certificate that cannot be used is found out when it is read, and then the one
//! before it stays in use.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{InconsistentKeys, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::config::TlsFiles;

/// How long a handshake may take: two round trips, also over a bad line.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What connections are secured with.
pub(super) struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: Mutex<Arc<ServerConfig>>,
}

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One file without the other.
    #[error("of --tls-cert and --tls-key only one was given")]
    Half,
    /// A file is not there, or not readable.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM form{detail}", path.display())]
    NotPem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// What is wrong, if that is known; begins with a colon.
        detail: String,
    },
    /// They do not belong together.
    #[error("the key in {} is not that of the certificate in {}", key.display(), cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// They are read and cannot be used.
    #[error("the certificate in {} and its key cannot be used: {reason}", cert.display())]
    Unusable {
        /// The certificate.
        cert: PathBuf,
        /// The library's words.
        reason: String,
    },
}

impl Tls {
    /// Reads the files, if any are named.
    pub fn open(files: &TlsFiles) -> Result<Option<Arc<Self>>, TlsError> {
        let (cert, key) = match (&files.tls_cert, &files.tls_key) {
            (None, None) => return Ok(None),
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            _ => return Err(TlsError::Half),
        };
        let current = Mutex::new(read(&cert, &key)?);
        Ok(Some(Arc::new(Self { cert, key, current })))
    }

    /// Reads the files again; new connections get what they hold now.
    pub fn reload(&self) -> Result<(), TlsError> {
        let config = read(&self.cert, &self.key)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Secures a connection, within [`HANDSHAKE`].
    pub async fn handshake<S>(&self, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let accepting = TlsAcceptor::from(self.config());
        let shaken = timeout(HANDSHAKE, accepting.accept(stream)).await;
        shaken.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn config(&self) -> Arc<ServerConfig> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&current)
    }
}

impl TlsError {
    /// What the operator can do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Half => "give both, or neither",
            Self::Read { .. } => "name PEM files that the server's user may read",
            Self::NotPem { what: "key", .. } => {
                "--tls-key takes a file with `-----BEGIN PRIVATE KEY-----`, without a passphrase"
            }
            Self::NotPem { .. } => {
                "--tls-cert takes a file with `-----BEGIN CERTIFICATE-----`, the server's own first"
            }
            Self::Mismatch { .. } => {
                "give the key that the certificate was made with; the server's own certificate comes \
                 first in --tls-cert"
            }
            Self::Unusable { .. } => "`openssl x509 -noout -text -in …` shows what is in it",
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tls").field(&self.cert).finish()
    }
}

fn read(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let read = CertificateDer::pem_file_iter(cert).and_then(Iterator::collect);
    let chain: Vec<_> = read.map_err(|error| unreadable(cert, "certificate", error))?;
    if chain.is_empty() {
        return Err(unreadable(cert, "certificate", pem::Error::NoItemsFound));
    }
    let secret = PrivateKeyDer::from_pem_file(key);
    let secret = secret.map_err(|error| unreadable(key, "key", error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, secret);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => TlsError::Mismatch {
            cert: cert.to_owned(),
            key: key.to_owned(),
        },
        error => TlsError::Unusable {
            cert: cert.to_owned(),
            reason: error.to_string(),
        },
    })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unreadable(path: &Path, what: &'static str, error: pem::Error) -> TlsError {
    let path = path.to_owned();
    let detail = match error {
        pem::Error::Io(source) => return TlsError::Read { path, source },
        pem::Error::NoItemsFound => String::new(),
        error => format!(": {error}"),
    };
    TlsError::NotPem { path, what, detail }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_does_not_come_is_given_up() {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        // Both may be in one file.
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let pem = made.cert.pem() + &made.signing_key.serialize_pem();
        file.write_all(pem.as_bytes()).unwrap();
        let files = TlsFiles {
            tls_cert: Some(file.path().into()),
            tls_key: Some(file.path().into()),
        };
        let tls = Tls::open(&files).unwrap().unwrap();
        let (server, _silent) = tokio::io::duplex(64);
        let began = tokio::time::Instant::now();
        let error = tls.handshake(server).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed(), HANDSHAKE);
    }
}

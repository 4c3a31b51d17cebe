//! The authorities that a user trusts beside the public ones and the machine's.

use std::path::Path;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject as _};

use super::{ConfigError, Unusable};

/// Certificates of authorities from a file of the user's; none without one. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorities(Arc<[CertificateDer<'static>]>);

impl Authorities {
    /// Reads PEM certificates; every one of them must be usable.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let failed = |reason: String| ConfigError::Authorities {
            path: path.to_owned(),
            reason: Unusable(reason),
        };
        let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
        let certificates: Vec<_> = read.map_err(|error| match error {
            pem::Error::Io(source) => ConfigError::Io {
                action: "read",
                path: path.to_owned(),
                source,
            },
            error => failed(error.to_string()),
        })?;
        if certificates.is_empty() {
            return Err(failed("there is no certificate in PEM form in it".into()));
        }
        let mut usable = RootCertStore::empty();
        for certificate in &certificates {
            let added = usable.add(certificate.clone());
            added.map_err(|error| failed(error.to_string()))?;
        }
        Ok(Self(certificates.into()))
    }

    /// The certificates.
    pub fn certificates(&self) -> impl Iterator<Item = CertificateDer<'static>> {
        self.0.iter().cloned()
    }
}

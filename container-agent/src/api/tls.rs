//! Whom the agent trusts: one configuration for every connection it makes, HTTP and WebSocket.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{Authorities, ServerUrl};

/// The TLS configuration for `server`: the public authorities compiled in, the machine's own, and
/// the user's.
///
/// The machine's alone would not do: slim container images have none. They are read only when the
/// server is reached over TLS. `SSL_CERT_FILE` and `SSL_CERT_DIR` name others.
pub fn client_config(server: &ServerUrl, authorities: &Authorities) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if server.as_url().scheme() == "https" {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let machine = rustls_native_certs::load_native_certs();
        for error in &machine.errors {
            tracing::debug!("a certificate of this machine is left out: {error}");
        }
        roots.add_parsable_certificates(machine.certs);
        // They were found usable when they were read.
        roots.add_parsable_certificates(authorities.certificates());
    }
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring knows TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth()
}

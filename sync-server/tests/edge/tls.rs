//! TLS in the server itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use sync_server::StartError;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::TestServer;
use crate::socket::Socket;

/// A certificate that vouches for itself, and its key, in files.
struct Identity {
    cert: PathBuf,
    key: PathBuf,
    der: CertificateDer<'static>,
}

impl Identity {
    fn new(directory: &Path, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let cert = params.self_signed(&key).unwrap();
        let identity = Self {
            cert: directory.join(format!("{name}.pem")),
            key: directory.join(format!("{name}.key")),
            der: cert.der().clone(),
        };
        std::fs::write(&identity.cert, cert.pem()).unwrap();
        std::fs::write(&identity.key, key.serialize_pem()).unwrap();
        identity
    }

    async fn serve(&self) -> TestServer {
        TestServer::start_with(|config| {
            config.tls.tls_cert = Some(self.cert.clone());
            config.tls.tls_key = Some(self.key.clone());
        })
        .await
    }

    /// A connection to whoever has this certificate.
    async fn connect(&self, server: &TestServer) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(server.running.address()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
    }

    async fn get(&self, server: &TestServer, path: &str) -> StatusCode {
        let stream = TokioIo::new(self.connect(server).await.unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = Request::builder().uri(path).header("host", "localhost");
        let request = request.header("authorization", format!("Bearer {}", server.admin));
        let request = request.body(axum::body::Body::empty()).unwrap();
        let status = sender.send_request(request).await.unwrap().status();
        connection.abort();
        status
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_both_sockets_go_over_tls_and_nothing_goes_without() {
    let directory = tempfile::tempdir().unwrap();
    let identity = Identity::new(directory.path(), "a");
    let server = identity.serve().await;
    assert!(server.running.url().starts_with("https://127.0.0.1:"));
    assert_eq!(identity.get(&server, "/api/projects").await, 200);

    // No project is there; that is what both sockets say over TLS.
    let stream = identity.connect(&server).await.unwrap();
    let mut ws = Socket::over(stream, &format!("/ws/p?token={}", server.admin)).await;
    assert_eq!(ws.closed().await.0, 4404);
    let stream = identity.connect(&server).await.unwrap();
    let mut collab = Socket::over(stream, "/collab").await;
    collab.auth("p", &server.admin).await;
    assert_eq!(collab.frame().await[..4], [1, b'p', 2, 1], "denied");

    // Whoever does not shake hands hears nothing but that.
    let mut plain = TcpStream::connect(server.running.address()).await.unwrap();
    plain
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP/"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
    // Nor does one that never begins to keep others, or the server's end, waiting.
    let _silent = TcpStream::connect(server.running.address()).await.unwrap();
    assert_eq!(identity.get(&server, "/healthz").await, 200);
    let began = std::time::Instant::now();
    server.running.stop().await;
    assert!(began.elapsed().as_secs() < 2, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_taken_and_a_bad_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (
        Identity::new(directory.path(), "a"),
        Identity::new(directory.path(), "b"),
    );
    let server = old.serve().await;
    std::fs::copy(&new.cert, &old.cert).unwrap();
    let error = server.running.reload_tls().unwrap_err().to_string();
    assert!(error.contains("is not that of the certificate"), "{error}");
    assert_eq!(old.get(&server, "/healthz").await, 200);

    std::fs::copy(&new.key, &old.key).unwrap();
    server.running.reload_tls().unwrap();
    assert_eq!(new.get(&server, "/healthz").await, 200);
    assert!(old.connect(&server).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_files_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (a, b) = (
        Identity::new(directory.path(), "a"),
        Identity::new(directory.path(), "b"),
    );
    std::fs::write(at("empty"), "").unwrap();
    std::fs::write(at("cut"), "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
    for (cert, key, said, hint) in [
        (&at("none"), &a.key, "cannot read", "may read"),
        (&a.cert, &at("none"), "cannot read", "may read"),
        (
            &at("empty"),
            &a.key,
            "holds no certificate",
            "BEGIN CERTIFICATE",
        ),
        (
            &at("cut"),
            &a.key,
            "holds no certificate",
            "BEGIN CERTIFICATE",
        ),
        (&a.key, &a.key, "holds no certificate", "BEGIN CERTIFICATE"),
        (&a.cert, &at("empty"), "holds no key", "BEGIN PRIVATE KEY"),
        (&a.cert, &a.cert, "holds no key", "BEGIN PRIVATE KEY"),
        (
            &a.cert,
            &b.key,
            "is not that of the certificate",
            "made with",
        ),
    ] {
        let data = TempDir::new().unwrap();
        let mut config = sync_server::Config::local(data.path());
        config.tls.tls_cert = Some(cert.clone());
        config.tls.tls_key = Some(key.clone());
        let Err(error) = sync_server::Server::start(config).await else {
            panic!("it starts: {said}");
        };
        assert!(matches!(error, StartError::Tls(_)), "{error}");
        let words = error.to_string();
        assert!(words.contains(said) && words.contains("/"), "{words}");
        assert!(error.hint().unwrap().contains(hint), "{words}");
    }
}

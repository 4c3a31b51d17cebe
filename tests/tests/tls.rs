//! The server's own TLS, with certificates of one's own making, and who accepts them.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test that fails may panic, and makes certificates as an operator does"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use uspark_tests::{Project, SOON, Server, Workspace, eventually, program};

/// An authority, and a server's certificate that it signed, as files.
struct Certificates {
    directory: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let made = Self { directory };
        made.make();
        made
    }

    /// Makes all of them anew.
    fn make(&self) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Of another name than what it signs, which would pass for signed by itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let ca = params.self_signed(&key).unwrap();
        fs::write(self.ca(), ca.pem()).unwrap();
        let authority = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let cert = params.signed_by(&key, &authority).unwrap();
        fs::write(self.at("cert.pem"), cert.pem()).unwrap();
        fs::write(self.at("key.pem"), key.serialize_pem()).unwrap();
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn ca(&self) -> PathBuf {
        self.at("ca.pem")
    }

    fn serve(&self) -> Server {
        let mut command = Command::new(program("sync-server"));
        command.arg("--tls-cert").arg(self.at("cert.pem"));
        command.arg("--tls-key").arg(self.at("key.pem"));
        Server::start_by(command)
    }
}

fn text(path: &Path) -> &str {
    path.to_str()
        .expect("a temporary directory has a plain name")
}

#[test]
fn a_project_goes_over_tls_to_whoever_trusts_the_authority_and_to_nobody_else() {
    let certificates = Certificates::new();
    let server = certificates.serve();
    assert!(
        server.url.starts_with("https://127.0.0.1:"),
        "{}",
        server.url
    );
    let ca = certificates.ca();
    let ca = text(&ca);
    let made = server.curl("/api/projects").args(&["--cacert", ca]);
    made.json(&json!({"id": "p"})).expect(201);
    let strict = server.curl("/api/projects").try_send();
    assert!(
        strict.is_err(),
        "curl took a certificate of nobody it knows"
    );
    let project = Project {
        id: "p".into(),
        url: server.url.clone(),
        token: server.token.clone(),
    };

    let workspace = Workspace::new(&project).env("PROJECT_ID", "p");
    workspace.write("src/a.txt", "over TLS\n");
    workspace.write("b.bin", vec![0; 200_000]);
    for command in [&["push"][..], &["pull"], &["diff"], &["auth", "status"]] {
        let refused = workspace.run(command).expect_code(1);
        for words in [
            "certificate",
            "UnknownIssuer",
            "hint:",
            "--ca-cert",
            "USPARK_CA_CERT",
        ] {
            assert!(refused.stderr.contains(words), "{words}\n{refused}");
        }
    }
    let none = workspace
        .run(&["push", "--ca-cert", "/nowhere.pem"])
        .expect_code(1);
    assert!(none.stderr.contains("cannot read /nowhere.pem"), "{none}");
    let key = certificates.at("key.pem");
    let odd = workspace
        .run(&["push", "--ca-cert", text(&key)])
        .expect_code(1);
    assert!(odd.stderr.contains("BEGIN CERTIFICATE"), "{odd}");

    workspace.run(&["push", "--ca-cert", ca]).expect_code(0);
    let other = Workspace::new(&project)
        .env("PROJECT_ID", "p")
        .env("USPARK_CA_CERT", ca);
    other.run(&["pull"]).expect_code(0);
    assert!(other.tree().unwrap() == workspace.tree().unwrap());

    // Both ways while both are at work: over sockets.
    let workspace = workspace.env("USPARK_CA_CERT", ca);
    let agents = [workspace.start(&["watch"]), other.start(&["watch"])];
    workspace.write("src/a.txt", "there\n");
    eventually(SOON, || {
        uspark_tests::same(other.text("src/a.txt")?, "there\n")
    });
    other.write("c.txt", "and back\n");
    eventually(SOON, || {
        uspark_tests::same(workspace.text("c.txt")?, "and back\n")
    });
    for agent in agents {
        agent.terminate().expect_code(0);
    }
}

/// Named once, by a path from where the user stood: remembered for wherever they stand later.
#[test]
fn a_login_remembers_whom_to_trust_until_the_logout() {
    let certificates = Certificates::new();
    let server = certificates.serve();
    let ca = certificates.ca();
    let made = server.curl("/api/projects");
    let made = made.args(&["--cacert", text(&ca)]);
    made.json(&json!({"id": "p"})).expect(201);
    let user = Workspace::without_token(&server.url).env("PROJECT_ID", "p");
    fs::copy(&ca, user.home().join("ca.pem")).unwrap();
    let login = ["auth", "login", "--token", &server.token];
    user.run(&login).expect_code(1);
    let path = "../home/ca.pem";
    user.run(&[&login[..], &["--ca-cert", path]].concat())
        .expect_code(0);
    user.write("a.txt", "over TLS\n");
    user.run(&["push"]).expect_code(0);
    fs::create_dir(user.path("below")).unwrap();
    let mut below = user.uspark(&["auth", "status"]);
    uspark_tests::Running::start(below.current_dir(user.path("below")))
        .wait()
        .expect_code(0);
    // Who names server and token is helped too, and who logs in again.
    let token = ["diff", "--server", &server.url, "--token", &server.token];
    user.run(&token).expect_code(0);
    user.run(&login).expect_code(0);
    // One that is named goes before it.
    let other = user.run(&["pull", "--ca-cert", "/nowhere.pem"]);
    assert!(other.expect_code(1).stderr.contains("/nowhere.pem"));
    user.run(&["auth", "logout"]).expect_code(0);
    let refused = user.run(&login).expect_code(1);
    assert!(refused.stderr.contains("--ca-cert"), "{refused}");
}

#[test]
fn a_certificate_is_renewed_while_the_server_runs() {
    let certificates = Certificates::new();
    let server = certificates.serve();
    let url = format!("{}/healthz", server.url);
    let old = certificates.at("old.pem");
    fs::copy(certificates.ca(), &old).unwrap();
    let reaches = |ca: &Path| {
        let curl = uspark_tests::Curl::without_token(url.clone());
        curl.args(&["--cacert", text(ca)])
            .try_send()
            .map(|reply| reply.status)
    };
    assert_eq!(reaches(&old).unwrap(), 200);
    certificates.make();
    assert!(reaches(&certificates.ca()).is_err());
    let pid = Pid::from_raw(i32::try_from(server.pid()).unwrap()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    eventually(SOON, || reaches(&certificates.ca()));
    assert!(reaches(&old).is_err());
}

//! `auth`: keep, show and forget tokens.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use super::args;
use super::failure::Failure;
use super::output::{Output, span};
use super::place::{Connection, find_server};
use crate::api::{Access, Api, TokenInfo};
use crate::clock::now_ms;
use crate::config::{ConfigError, Secret, UserConfig};

/// Runs one of the `auth` commands.
pub async fn auth(given: args::Auth, output: Output) -> Result<u8, Failure> {
    match given {
        args::Auth::Login {
            token,
            server,
            trust,
        } => login(token, &server, &trust, output).await,
        args::Auth::Status(connection) => status(&connection, output).await,
        args::Auth::Logout(server) => logout(&server, output),
    }
}

async fn login(
    token: Secret,
    server: &args::ServerArg,
    trust: &args::Trust,
    output: Output,
) -> Result<u8, Failure> {
    let config = UserConfig::from_environment()?;
    let credentials = config.read()?;
    let server = find_server(server, &credentials)?;
    let authorities = trust.authorities(credentials.ca_cert_for(&server))?;
    let ca_cert = trust.ca_cert.as_deref().map(absolute);
    let ca_cert = ca_cert.transpose()?;
    let api = Api::new(server.clone(), token.clone(), &authorities)?;
    let info = api.token_info().await.map_err(|error| Failure {
        message: format!("the token was not kept: {error}"),
        ..error.into()
    })?;
    config.remember(&server, &token, ca_cert.as_deref())?;
    let lines = format!("logged in to {server}\n{}", describe(&info, now_ms()));
    Ok(output.conclude(&lines, object(&server.to_string(), &info), None))
}

/// A path that means the same wherever the next command is given.
fn absolute(path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|source| ConfigError::Io {
        action: "find",
        path: path.to_owned(),
        source,
    })
}

async fn status(given: &args::Connection, output: Output) -> Result<u8, Failure> {
    let connection = Connection::find(given, None)?;
    let info = connection.api()?.token_info().await?;
    let server = connection.server.to_string();
    let from = match given.token {
        Some(_) => "given with the command".to_owned(),
        None => UserConfig::from_environment()?.path().display().to_string(),
    };
    let lines = format!(
        "server   {server}\n{}source   {from}\n",
        describe(&info, now_ms())
    );
    let mut object = object(&server, &info);
    object["source"] = json!(from);
    Ok(output.conclude(&lines, object, None))
}

fn logout(server: &args::ServerArg, output: Output) -> Result<u8, Failure> {
    let config = UserConfig::from_environment()?;
    let server = find_server(server, &config.read()?)?;
    let forgotten = config.forget(&server)?;
    let lines = match forgotten {
        true => format!("logged out of {server}\n"),
        false => format!("there was no token for {server}\n"),
    };
    let object = json!({"server": server, "forgotten": forgotten});
    Ok(output.conclude(&lines, object, None))
}

fn object(server: &str, info: &TokenInfo) -> serde_json::Value {
    json!({
        "server": server,
        "token": info.id,
        "project": info.project,
        "access": access(info.access),
        "expiresAt": info.expires_at,
    })
}

fn describe(info: &TokenInfo, now_ms: u64) -> String {
    let project = info
        .project
        .as_ref()
        .map_or("all projects", |project| project.as_str());
    let expires = match info.expires_at {
        None => "never".to_owned(),
        Some(at) if at <= now_ms => "has expired".to_owned(),
        Some(at) => format!("in {}", span(Duration::from_millis(at - now_ms))),
    };
    format!(
        "token    {}\nproject  {project}\naccess   {}\nexpires  {expires}\n",
        info.id,
        access(info.access)
    )
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Read => "read",
        Access::Write => "write",
        Access::Admin => "admin",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_described_with_the_time_it_has_left() {
        let info = |expires_at| TokenInfo {
            id: "abc".into(),
            project: None,
            access: Access::Read,
            expires_at,
        };
        let all = describe(&info(None), 0);
        assert_eq!(
            all,
            "token    abc\nproject  all projects\naccess   read\nexpires  never\n"
        );
        assert!(describe(&info(Some(5)), 5).contains("has expired"));
        for (seconds, expected) in [
            (59, "in 59 s"),
            (61, "in 1 min 1 s"),
            (7_260, "in 2 h 1 min"),
            (90_000, "in 1 d 1 h"),
        ] {
            assert!(
                describe(&info(Some(seconds * 1000)), 0).contains(expected),
                "{expected}"
            );
        }
    }
}

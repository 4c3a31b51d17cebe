//! Which directory, project, server and token a command is about: flags, variables and files
//! weighed against each other.

use std::env;
use std::path::{Path, PathBuf};

use uspark_shared::id::ProjectId;

use super::args;
use super::failure::{Failure, OTHER_DIRECTORY};
use crate::api::{Api, ApiError};
use crate::config::user::Credentials;
use crate::config::workspace::Mirror;
use crate::config::{
    Authorities, ConfigError, Secret, ServerUrl, UserConfig, WorkspaceConfig, make_directory,
};

/// A directory and the project that it mirrors.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The directory: absolute, without links.
    pub root: PathBuf,
    /// Where the command was given: absolute, without links.
    pub current: PathBuf,
    /// The project.
    pub project: ProjectId,
    /// The server that it was last reached on.
    pub remembered: Option<ServerUrl>,
}

/// A server, and who one is there.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The server.
    pub server: ServerUrl,
    /// The token.
    pub token: Secret,
    /// Who may vouch for the server.
    pub authorities: Authorities,
}

/// Whether a workspace that is not there is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is an error: there is nothing to send.
    IsAnError,
    /// It is made: something will come.
    IsMade,
}

impl Workspace {
    /// Finds out from the flags, the variables and what is remembered.
    pub fn find(target: &args::Target, missing: Missing) -> Result<Self, Failure> {
        let named = target.project_id.as_ref();
        Self::at(named, target.place.workspace.as_deref(), missing)
    }

    /// [`Self::find`] from the two flags that it looks at.
    pub fn at(
        named: Option<&ProjectId>,
        workspace: Option<&Path>,
        missing: Missing,
    ) -> Result<Self, Failure> {
        let current = current_directory()?;
        let root = find_root(workspace, &current, named.is_some(), missing)?;
        let mirror = WorkspaceConfig::of(&root).read()?;
        Ok(Self {
            project: choose_project(named, mirror.as_ref(), &root)?,
            remembered: mirror.map(|mirror| mirror.server),
            root,
            current,
        })
    }

    /// Remembers in the directory what it mirrors.
    pub fn remember(&self, server: &ServerUrl) -> Result<(), ConfigError> {
        WorkspaceConfig::of(&self.root).remember(&Mirror {
            project: self.project.clone(),
            server: server.clone(),
        })
    }
}

impl Connection {
    /// Finds out from the flags, the variables and the user's file; `remembered` is the server
    /// that the workspace was last reached on.
    pub fn find(given: &args::Connection, remembered: Option<&ServerUrl>) -> Result<Self, Failure> {
        let named = named_server(&given.server)?.or_else(|| remembered.cloned());
        if let (Some(server), Some(token)) = (&named, &given.token) {
            // The user's file is not needed: a container may have no home.
            let kept = UserConfig::from_environment().and_then(|config| config.read());
            let kept = kept.unwrap_or_default();
            return Ok(Self {
                authorities: given.trust.authorities(kept.ca_cert_for(server))?,
                server: server.clone(),
                token: token.clone(),
            });
        }
        let credentials = match (UserConfig::from_environment(), &given.token) {
            (Ok(config), _) => config.read()?,
            (Err(_), Some(_)) => Credentials::default(),
            (Err(error), None) => return Err(error.into()),
        };
        let server = named
            .or_else(|| credentials.server.clone())
            .unwrap_or_else(ServerUrl::default_server);
        match given.token.as_ref().or(credentials.token_for(&server)) {
            Some(token) => Ok(Self {
                token: token.clone(),
                authorities: given.trust.authorities(credentials.ca_cert_for(&server))?,
                server,
            }),
            None => Err(not_logged_in(&server, &credentials)),
        }
    }

    /// A client of the server.
    pub fn api(&self) -> Result<Api, ApiError> {
        Api::new(self.server.clone(), self.token.clone(), &self.authorities)
    }
}

/// The workspace that `workspace` names, or that the current directory is or lies in.
pub fn existing_root(workspace: Option<&Path>) -> Result<PathBuf, Failure> {
    find_root(workspace, &current_directory()?, false, Missing::IsAnError)
}

/// The server for `auth login` and `auth logout`: named, or the last one, or the usual one.
pub fn find_server(
    server: &args::ServerArg,
    credentials: &Credentials,
) -> Result<ServerUrl, Failure> {
    Ok(named_server(server)?
        .or_else(|| credentials.server.clone())
        .unwrap_or_else(ServerUrl::default_server))
}

fn named_server(server: &args::ServerArg) -> Result<Option<ServerUrl>, Failure> {
    if server.server.is_some() {
        return Ok(server.server.clone());
    }
    let Some(host) = env::var_os("API_HOST").filter(|host| !host.is_empty()) else {
        return Ok(None);
    };
    let parsed = host.to_string_lossy().parse().map_err(|error| {
        Failure::usage(format!("API_HOST: {error}")).hint("write it as in https://sync.example.com")
    })?;
    Ok(Some(parsed))
}

fn not_logged_in(server: &ServerUrl, credentials: &Credentials) -> Failure {
    let others: Vec<_> = credentials.tokens.keys().map(String::as_str).collect();
    let hint = match others.as_slice() {
        [] => "uspark auth login --token …, or set USPARK_TOKEN".to_owned(),
        others => format!(
            "uspark auth login --server {server} --token …; there are tokens for {}",
            others.join(", ")
        ),
    };
    Failure::new(format!("no token for the server {server}")).hint(hint)
}

fn current_directory() -> Result<PathBuf, Failure> {
    env::current_dir()
        .and_then(|path| path.canonicalize())
        .map_err(|error| {
            Failure::new("cannot tell the current directory")
                .cause(error)
                .hint("cd to one that exists")
        })
}

fn find_root(
    workspace: Option<&Path>,
    current: &Path,
    project_is_named: bool,
    missing: Missing,
) -> Result<PathBuf, Failure> {
    let root = match workspace {
        Some(named) => current.join(named),
        // Who names the project means this directory; who does not may stand below the workspace.
        None if project_is_named => current.to_owned(),
        None => nearest_workspace(current)?,
    };
    if missing == Missing::IsMade && !root.exists() {
        make_directory(&root)?;
    }
    let found = root.canonicalize().map_err(|error| {
        Failure::usage(format!("there is no workspace at {}", root.display()))
            .cause(error)
            .hint("check --workspace and WORKSPACE_PATH")
    })?;
    if !found.is_dir() {
        return Err(
            Failure::usage(format!("{} is no directory", root.display()))
                .hint("check --workspace and WORKSPACE_PATH"),
        );
    }
    Ok(found)
}

fn nearest_workspace(current: &Path) -> Result<PathBuf, Failure> {
    for directory in current.ancestors() {
        // Another program's file of that name above us is none of our business.
        match WorkspaceConfig::of(directory).read() {
            Ok(None) => {}
            Ok(Some(_)) => return Ok(directory.to_owned()),
            Err(error) if directory == current => return Err(error.into()),
            Err(error) => tracing::debug!("not a workspace of ours: {error}"),
        }
    }
    Ok(current.to_owned())
}

fn choose_project(
    named: Option<&ProjectId>,
    mirror: Option<&Mirror>,
    root: &Path,
) -> Result<ProjectId, Failure> {
    match (named, mirror.map(|mirror| &mirror.project)) {
        (None, None) => Err(
            Failure::usage(format!("no project is known for {}", root.display()))
                .hint("name it once: --project-id ID, or PROJECT_ID"),
        ),
        (Some(named), Some(kept)) if named != kept => Err(Failure::new(format!(
            "{} mirrors the project `{kept}`, not `{named}`",
            root.display()
        ))
        .hint(OTHER_DIRECTORY)),
        (Some(project), _) | (None, Some(project)) => Ok(project.clone()),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests make their own files")]
mod tests {
    use super::*;

    fn mirror(project: &str) -> Mirror {
        Mirror {
            project: project.parse().unwrap(),
            server: ServerUrl::default_server(),
        }
    }

    #[test]
    fn one_workspace_mirrors_one_project() {
        let (p, q) = ("p".parse().unwrap(), "q".parse().unwrap());
        let choose =
            |named, mirror: Option<&Mirror>| choose_project(named, mirror, Path::new("/w"));
        assert_eq!(choose(Some(&p), None), Ok("p".parse().unwrap()));
        assert_eq!(choose(None, Some(&mirror("p"))), Ok("p".parse().unwrap()));
        assert_eq!(
            choose(Some(&p), Some(&mirror("p"))),
            Ok("p".parse().unwrap())
        );
        assert_eq!(choose(None, None).unwrap_err().exit, 2);
        let other = choose(Some(&q), Some(&mirror("p"))).unwrap_err();
        assert_eq!(other.exit, 1);
        assert!(other.message.contains("`p`") && other.message.contains("`q`"));
    }

    #[test]
    fn below_a_workspace_the_project_need_not_be_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        let below = root.join("src/deep");
        std::fs::create_dir_all(&below).unwrap();
        WorkspaceConfig::of(&root).remember(&mirror("p")).unwrap();

        let find = |named| find_root(None, &below, named, Missing::IsAnError).unwrap();
        assert_eq!(find(false), root);
        assert_eq!(
            find(true),
            below,
            "who names the project means this very directory"
        );

        let foreign = root.join("src/.uspark");
        std::fs::create_dir(&foreign).unwrap();
        std::fs::write(foreign.join("config.json"), "{\"token\": \"x\"}").unwrap();
        assert_eq!(find(false), root, "another program's file is passed over");
    }

    #[test]
    fn a_workspace_is_made_only_for_what_comes() {
        let directory = tempfile::tempdir().unwrap();
        let current = directory.path().canonicalize().unwrap();
        let find = |name: &str, missing| find_root(Some(Path::new(name)), &current, true, missing);
        assert_eq!(find("new/w", Missing::IsAnError).unwrap_err().exit, 2);
        assert_eq!(find("new/w", Missing::IsMade), Ok(current.join("new/w")));
        std::fs::write(current.join("file"), "").unwrap();
        for missing in [Missing::IsAnError, Missing::IsMade] {
            let failure = find("file", missing).unwrap_err();
            assert_eq!(failure.exit, 2);
            assert!(failure.message.contains("file is no directory"));
            assert!(failure.hint.unwrap().contains("--workspace"));
        }
        assert!(find("file/w", Missing::IsMade).is_err());
    }
}

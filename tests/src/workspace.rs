//! A workspace on disk, and beside it the home of the user whose workspace it is.

use std::{
    collections::BTreeMap,
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;
use tempfile::TempDir;

use crate::{Ended, Project, Running, program, programs::search_path};

/// What lies at a path of a workspace or of a project.
#[derive(Clone, PartialEq)]
pub enum Entry {
    /// A file.
    File {
        /// Its permission bits.
        mode: u32,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A symbolic link's target.
    Link(String),
    /// An empty directory.
    Directory,
}

/// All entries, by path.
pub type Tree = BTreeMap<String, Entry>;

/// A workspace; dropping it deletes it.
pub struct Workspace {
    /// Holds `home` and `work`.
    directory: TempDir,
    environment: Vec<(String, String)>,
}

impl Workspace {
    /// An empty workspace of a user who has the project's token in the environment.
    #[track_caller]
    pub fn new(project: &Project) -> Self {
        let workspace = Self::without_token(&project.url);
        workspace.env("USPARK_TOKEN", &project.token)
    }

    /// An empty workspace of a user who knows the server and has no token.
    #[track_caller]
    pub fn without_token(url: &str) -> Self {
        let directory = TempDir::new().expect("a temporary directory");
        for name in ["home", "work"] {
            fs::create_dir(directory.path().join(name)).expect("a directory of our own");
        }
        let home = directory.path().join("home");
        let mut environment = vec![
            ("PATH".to_owned(), search_path()),
            ("HOME".to_owned(), home.display().to_string()),
            (
                "XDG_CONFIG_HOME".to_owned(),
                home.join(".config").display().to_string(),
            ),
            ("USPARK_SERVER".to_owned(), url.to_owned()),
        ];
        // USPARK_LOG=debug cargo test … shows with a failure what the agent did.
        environment.extend(
            env::var("USPARK_LOG")
                .ok()
                .map(|filter| ("USPARK_LOG".to_owned(), filter)),
        );
        Self {
            directory,
            environment,
        }
    }

    /// Sets an environment variable of everything that runs here.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The workspace's directory.
    pub fn root(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// The directory that holds both, and nothing of anybody else.
    pub fn outside(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the workspace.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }

    /// `uspark` with these arguments, in the workspace and in nothing but its own environment.
    pub fn uspark(&self, args: &[&str]) -> Command {
        let mut command = self.command(program("uspark"));
        command.args(args);
        command
    }

    /// A bash script, there as well.
    pub fn bash(&self, script: &str) -> Command {
        let mut command = self.command("bash".into());
        command.args(["-c", script]);
        command
    }

    /// Runs `uspark` to its end.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ended {
        self.start(args).wait()
    }

    /// Starts `uspark`.
    #[track_caller]
    pub fn start(&self, args: &[&str]) -> Running {
        Running::start(&mut self.uspark(args))
    }

    /// Writes a file as editors and Claude Code do: in place, its directories made.
    #[track_caller]
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a file has a directory"))
            .expect("directories of our own");
        fs::write(&path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }

    /// Replaces `old`, which is there exactly once, as Claude Code's Edit does.
    #[track_caller]
    pub fn edit(&self, path: &str, old: &str, new: &str) {
        let text = self.text(path).expect("the file is there");
        assert_eq!(text.matches(old).count(), 1, "{old:?} in {path}");
        self.write(path, text.replacen(old, new, 1));
    }

    /// A file's bytes.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path(path))
    }

    /// A file's text.
    pub fn text(&self, path: &str) -> anyhow::Result<String> {
        Ok(String::from_utf8(self.read(path)?)?)
    }

    /// Everything in the workspace but `.uspark`.
    pub fn tree(&self) -> io::Result<Tree> {
        let mut tree = Tree::new();
        add(&mut tree, &self.root(), &self.root())?;
        Ok(tree)
    }

    /// Is an error that names the first difference, unless workspace and project are equal: paths, bytes, modes, links.
    pub fn equals(&self, project: &Project) -> anyhow::Result<()> {
        let (here, there) = (self.tree()?, project.tree()?);
        for path in here.keys().chain(there.keys()) {
            match (here.get(path), there.get(path)) {
                (here, there) if here == there => {}
                (here, there) => bail!(
                    "{path}: on disk {}; on the server {}",
                    said(here),
                    said(there)
                ),
            }
        }
        Ok(())
    }

    fn command(&self, program: PathBuf) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .envs(self.environment.iter().cloned())
            .current_dir(self.root());
        command
    }
}

/// Adds what lies in `directory` to the tree; paths are relative to `root`.
fn add(tree: &mut Tree, root: &Path, directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let relative = path
            .strip_prefix(root)
            .expect("it was listed there")
            .display()
            .to_string();
        if relative == ".uspark" {
            continue;
        }
        let metadata = fs::symlink_metadata(&path)?;
        if metadata.is_symlink() {
            tree.insert(
                relative,
                Entry::Link(fs::read_link(&path)?.display().to_string()),
            );
        } else if !metadata.is_dir() {
            let mode = metadata.permissions().mode() & 0o7777;
            tree.insert(
                relative,
                Entry::File {
                    mode,
                    bytes: fs::read(&path)?,
                },
            );
        } else if fs::read_dir(&path)?.next().is_none() {
            tree.insert(relative, Entry::Directory);
        } else {
            add(tree, root, &path)?;
        }
    }
    Ok(())
}

fn said(entry: Option<&Entry>) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some(Entry::Directory) => "an empty directory".to_owned(),
        Some(Entry::Link(target)) => format!("a link to {target}"),
        Some(Entry::File { mode, bytes }) => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]);
            format!("{} bytes, mode {mode:o}: {start:?}", bytes.len())
        }
    }
}

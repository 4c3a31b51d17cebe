//! Where the programs are that the tests run: ours beside the test executable, other people's in `tests/node`.

use std::{
    env, fs,
    os::unix::fs::{PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
};

/// The user and the group `nobody`, by number: they need no entry anywhere.
const NOBODY: u32 = 65534;

/// The path of one of our binaries. Cargo puts them into `target/<profile>`, test executables into its `deps`, which is
/// looked into first: nothing of ours is there under its own name.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let this = env::current_exe().expect("a program knows its own path");
    let directories = || this.ancestors().skip(1).take(2);
    let mut paths = directories().map(|directory| directory.join(name));
    let path = paths.find(|path| path.is_file());
    path.unwrap_or_else(|| {
        panic!(
            "{name} is not built beside {}; run `cargo build --bins` (or `make test`) first",
            this.display()
        )
    })
}

/// The directory of the Node package beside this crate.
pub(crate) fn node_package() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("node");
    assert!(
        package.join("node_modules").is_dir(),
        "the Node programs are not installed; run `scripts/install-node-package.sh tests/node` (or `make test`) first"
    );
    package
}

/// A PATH with `uspark`, `sync-server`, `claude` and the system's programs.
pub(crate) fn search_path() -> String {
    let ours = program("uspark");
    let ours = ours.parent().expect("a binary lies in a directory");
    let system = env::var("PATH").unwrap_or_default();
    format!(
        "{}:{}:{system}",
        ours.display(),
        node_package().join("node_modules/.bin").display()
    )
}

/// True for root, whom no permission stops.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// The start of a command line whose command may mount file systems that nobody else sees; none where the machine
/// allows that to nobody, as in most containers.
pub fn private_mounts() -> Option<&'static [&'static str]> {
    let root: &[&str] = &["unshare", "--mount"];
    let user: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];
    [root, user].into_iter().find(|line| {
        let mut mount = Command::new(line[0]);
        mount
            .args(&line[1..])
            .args(["mount", "-t", "tmpfs", "none", "/mnt"]);
        mount.output().is_ok_and(|output| output.status.success())
    })
}

/// `command` at the end of another command line, with all of its environment and in its directory.
pub fn under(line: &[&str], command: &Command) -> Command {
    replaced(line, command.get_program().as_ref(), command)
}

fn replaced(line: &[&str], program: &Path, command: &Command) -> Command {
    let mut whole = Command::new(line[0]);
    whole.args(&line[1..]).arg(program).args(command.get_args());
    whole.env_clear().envs(
        command
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    if let Some(directory) = command.get_current_dir() {
        whole.current_dir(directory);
    }
    whole
}

/// Turns `command`, started by root, into one of an ordinary user, who gets the directory `home` and all in it.
/// Anybody else is an ordinary user already.
///
/// The program is copied into `home`: the checkout may lie where only root can go.
pub fn as_ordinary_user(command: Command, home: &Path) -> Command {
    if !is_root() {
        return command;
    }
    let copy = home.join(
        Path::new(command.get_program())
            .file_name()
            .expect("a program has a name"),
    );
    fs::copy(command.get_program(), &copy).expect("a program can be copied");
    give(home);
    let ids = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
    ];
    replaced(&ids, &copy, &command)
}

/// Gives a directory and everything below it to the ordinary user.
fn give(path: &Path) {
    chown(path, Some(NOBODY), Some(NOBODY)).expect("root can give a file away");
    if path.is_symlink() || !path.is_dir() {
        return;
    }
    let mode = fs::metadata(path).expect("it exists").permissions().mode();
    fs::set_permissions(path, fs::Permissions::from_mode(mode | 0o700))
        .expect("root can set modes");
    for entry in fs::read_dir(path).expect("a directory can be listed") {
        give(&entry.expect("a directory can be listed").path());
    }
}

//! A workspace that an agent keeps equal to its project, and what the rows do to both.

use std::{
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::ensure;
use uspark_tests::{Project, Running, SOON, Server, Workspace, eventually};

/// How long a step of a row may take on a busy machine.
pub const LONG: Duration = Duration::from_secs(300);

/// A workspace with an agent; everything ends when it is dropped.
pub struct Watched {
    pub project: Project,
    pub workspace: Workspace,
    pub agent: Running,
    _server: Server,
}

impl Watched {
    /// A new project, and an agent in an empty workspace.
    #[track_caller]
    pub fn start() -> Self {
        let server = Server::start();
        let project = server.project();
        let workspace = Workspace::new(&project);
        // Whole trees go because a row means it.
        let watch = ["watch", "--project-id", &project.id, "--allow-mass-delete"];
        let agent = workspace.start(&watch);
        let watched = Self {
            project,
            workspace,
            agent,
            _server: server,
        };
        eventually(SOON, || {
            let status = watched.workspace.run(&["status", "--wait"]);
            ensure!(status.code == 0, "{status}");
            Ok(())
        });
        watched
    }

    /// Runs a bash script in the workspace to its end.
    #[track_caller]
    pub fn bash(&self, script: &str) {
        Running::start(&mut self.workspace.bash(script))
            .wait_within(LONG)
            .expect_code(0);
    }

    /// The barrier, and then the walk: workspace and project are equal at once.
    #[track_caller]
    pub fn check(&self) {
        barrier(&self.workspace);
        self.workspace
            .equals_by_hash(&self.project)
            .expect("after a barrier all is equal");
    }

    /// Ends the agent, which has nothing left to do.
    #[track_caller]
    pub fn end(self) {
        self.agent.terminate().expect_code(0);
    }
}

/// Waits until the agent of a workspace says that all is equal.
#[track_caller]
pub fn barrier(workspace: &Workspace) {
    workspace
        .start(&["status", "--wait", "--sync-timeout", "5m"])
        .wait_within(LONG)
        .expect_code(0);
}

/// Makes files of random lines, one in ten of them binary, `directories` times `each`.
pub fn fill(random: &mut fastrand::Rng, root: &Path, directories: usize, each: usize) {
    for directory in 0..directories {
        let directory = root.join(format!("d{directory}"));
        fs::create_dir_all(&directory).expect("a directory of our own");
        for file in 0..each {
            fs::write(directory.join(format!("f{file}")), some_bytes(random))
                .expect("a file of our own");
        }
    }
}

/// A small file's bytes: lines, or now and then no text at all.
pub fn some_bytes(random: &mut fastrand::Rng) -> Vec<u8> {
    if random.u8(..10) == 0 {
        return (0..random.usize(1..500))
            .map(|_| random.u8(..) & 0xfe)
            .chain([0])
            .collect();
    }
    let lines = random.usize(..20);
    let lines = (0..lines).map(|_| format!("{:016x} some words\n", random.u64(..)));
    lines.collect::<String>().into_bytes()
}

/// Tells the threads of a scope to end once it is dropped, also by a panic: the scope waits for them.
pub struct EndOnDrop<'a>(pub &'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

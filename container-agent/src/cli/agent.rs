//! The session of this process, as other commands of the same workspace see it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use uspark_shared::path::FilePath;

use crate::control::message::{Identity, Reason};
use crate::control::{Agent, ReportView, StatusView, ToolStart};
use crate::engine::{Meant, SessionHandle, ToolCall};

/// Answers on the control socket.
#[derive(Clone)]
pub struct SessionAgent {
    handle: SessionHandle,
    identity: Arc<Identity>,
    root: Arc<Path>,
}

impl SessionAgent {
    /// Answers for `handle`, whose workspace is at `root`.
    pub fn new(handle: SessionHandle, identity: Identity, root: &Path) -> Self {
        Self {
            handle,
            identity: Arc::new(identity),
            root: root.into(),
        }
    }
}

impl Agent for SessionAgent {
    async fn status(&self) -> StatusView {
        StatusView::new(&self.identity, self.handle.status().await)
    }

    async fn barrier(&self, timeout: Duration, meant: Meant) -> ReportView {
        // Longer than a day is for ever; the addition must not overflow.
        let timeout = timeout.min(Duration::from_secs(24 * 3600));
        let deadline = Instant::now() + timeout;
        self.handle.barrier_with(deadline, meant).await.into()
    }

    async fn unknown(&self, paths: Vec<FilePath>) -> Vec<Reason> {
        let unknown = self.handle.unknown(paths).await;
        unknown.into_iter().map(Reason::from).collect()
    }

    fn tool_started(&self, call: ToolStart) {
        if let Some(call) = tool_call(call, &self.root) {
            self.handle.tool_started(call);
        }
    }

    fn tool_finished(&self, id: &str) {
        self.handle.tool_finished(id);
    }
}

/// The call as the engine takes it: of its paths, those in the workspace. A call that names only
/// files elsewhere changes nothing here.
pub fn tool_call(call: ToolStart, root: &Path) -> Option<ToolCall> {
    let paths: Vec<FilePath> = call
        .paths
        .iter()
        .filter_map(|path| in_workspace(path, root))
        .collect();
    let is_elsewhere = paths.is_empty() && !call.paths.is_empty();
    (!is_elsewhere).then_some(ToolCall {
        id: call.id,
        name: call.name,
        paths,
    })
}

/// A path as a tool names it, usually absolute -> a path of the project, if it is one. As the tools
/// themselves do, `..` is taken by the letter and not by what is on disk.
fn in_workspace(path: &Path, root: &Path) -> Option<FilePath> {
    let mut whole = PathBuf::new();
    for part in root.join(path).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole.strip_prefix(root).ok()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tools_paths_are_those_in_the_workspace() {
        let call = |paths: &[&str]| ToolStart {
            id: "t".into(),
            name: "Write".into(),
            paths: paths.iter().map(PathBuf::from).collect(),
        };
        let elsewhere = ["/etc/passwd", "/w/../x", "/w", "/w/.git/x", "/wide/a"];
        let here = [
            "/w/src/a",
            "rel/b",
            "./c",
            "/w//d",
            "/w/./x/../e",
            "/w/../w/f",
        ];
        let both = [&here[..], &elsewhere].concat();
        let paths = tool_call(call(&both), Path::new("/w")).unwrap().paths;
        let paths: Vec<_> = paths.iter().map(FilePath::as_str).collect();
        assert_eq!(paths, ["src/a", "rel/b", "c", "d", "e", "f"]);
        assert_eq!(tool_call(call(&elsewhere), Path::new("/w")), None);
        assert!(tool_call(call(&[]), Path::new("/w")).is_some());
    }
}

//! Two agents at one project, on the real server: what both did to one path at once is kept, and a text keeps its document.
#![allow(
    clippy::disallowed_methods,
    reason = "tests change workspaces as a user does"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::ensure;
use serde_json::Value;
use uspark_tests::{Project, Running, SOON, Server, Workspace, eventually, same};

/// A project, and the workspaces of two users.
struct Two {
    server: Server,
    project: Project,
    anna: Workspace,
    bert: Workspace,
}

impl Two {
    /// Both have these files, and no agent runs.
    fn start(files: &[(&str, &[u8])]) -> Self {
        let server = Server::start();
        let project = server.project();
        for (path, bytes) in files {
            project.put(path, *bytes);
        }
        let [anna, bert] = [(), ()].map(|()| Workspace::new(&project));
        for workspace in [&anna, &bert] {
            let pull = ["pull", "--project-id", &project.id];
            workspace.run(&pull).expect_code(0);
        }
        Self {
            server,
            project,
            anna,
            bert,
        }
    }

    fn agent(&self, workspace: &Workspace) -> Running {
        workspace.start(&["watch", "--project-id", &self.project.id])
    }

    /// Both agents run, and the server is away while `act` is done.
    fn without_server(&mut self, act: impl FnOnce(&Self)) -> [Running; 2] {
        let agents = [&self.anna, &self.bert].map(|workspace| {
            let agent = self.agent(workspace);
            eventually(SOON, || same(link(workspace)?, "online"));
            agent
        });
        self.server.kill9();
        for workspace in [&self.anna, &self.bert] {
            eventually(SOON, || ensured_not_online(workspace));
        }
        act(self);
        self.server.restart();
        agents
    }

    /// Waits until both have what the project has, and that is `expected`.
    #[track_caller]
    fn converge(&self, mut expected: impl FnMut(&Value) -> anyhow::Result<()>) -> Value {
        eventually(SOON, || {
            let manifest = self.project.manifest()?;
            expected(&manifest)?;
            self.anna.equals(&self.project)?;
            self.bert.equals(&self.project)?;
            Ok(manifest)
        })
    }

    /// Of these versions of `path` one won and the others lie beside it, on both disks and on the server, and all can be read by hash.
    /// Gives the winner.
    #[track_caller]
    fn assert_all_kept(&self, path: &str, versions: &[&[u8]]) -> Vec<u8> {
        let wanted: BTreeSet<Vec<u8>> = versions.iter().map(|bytes| bytes.to_vec()).collect();
        let found = |manifest: &Value| -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
            let paths = manifest
                .as_object()
                .into_iter()
                .flat_map(|files| files.keys());
            let paths =
                paths.filter(|found| *found == path || found.starts_with(&format!("{path}.")));
            paths
                .map(|path| Ok((path.clone(), self.project.read(path)?)))
                .collect()
        };
        let manifest = self.converge(|manifest| {
            let found = found(manifest)?;
            ensure!(found.len() == versions.len(), "found {:?}", found.keys());
            same(found.into_values().collect::<BTreeSet<_>>(), wanted.clone())
        });
        for (name, bytes) in found(&manifest).expect("the server answers") {
            assert!(name == path || is_conflict_name(&name, path), "{name}");
            let hash = blake3::hash(&bytes).to_hex().to_string();
            assert_eq!(manifest[&name]["hash"], hash.as_str(), "{name}");
            self.assert_readable(&bytes);
        }
        self.project.read(path).expect("the winner is there")
    }

    /// These bytes can be read by their hash.
    #[track_caller]
    fn assert_readable(&self, bytes: &[u8]) {
        let hash = blake3::hash(bytes).to_hex();
        let blob = format!("/api/blobs/{hash}?project={}", self.project.id);
        assert_eq!(self.server.curl(&blob).expect(200).body, bytes);
    }
}

/// Whether this is `path.conflict-<who>-<when>`, of these minutes.
fn is_conflict_name(name: &str, path: &str) -> bool {
    let rest = name
        .strip_prefix(path)
        .and_then(|rest| rest.strip_prefix(".conflict-"));
    let Some((who, when)) = rest.and_then(|rest| rest.rsplit_once('-')) else {
        return false;
    };
    let Ok(when) = when.parse::<u128>() else {
        return false;
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.expect("the clock is right").as_millis();
    let is_name = !who.is_empty() && who.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    is_name && (now - 600_000..=now).contains(&when)
}

/// What an agent says of its connection.
fn link(workspace: &Workspace) -> anyhow::Result<String> {
    let said = workspace.run(&["status", "--json"]);
    let said: Value = serde_json::from_slice(&said.stdout)?;
    let state = &said["agent"]["link"]["state"];
    Ok(state.as_str().unwrap_or_default().to_owned())
}

fn ensured_not_online(workspace: &Workspace) -> anyhow::Result<()> {
    let state = link(workspace)?;
    ensure!(!state.is_empty() && state != "online", "{state:?}");
    Ok(())
}

#[track_caller]
fn end(agents: impl IntoIterator<Item = Running>) {
    for agent in agents {
        agent.terminate().expect_code(0);
    }
}

const ANNAS: &[u8] = b"\0 anna's";
const BERTS: &[u8] = b"\0 bert's";

#[test]
fn of_two_binaries_one_wins_and_the_other_is_kept() {
    // One after the other: the second comes too late.
    let two = Two::start(&[("img/a.png", b"\0 first")]);
    two.anna.write("img/a.png", ANNAS);
    two.bert.write("img/a.png", BERTS);
    let annas = two.agent(&two.anna);
    eventually(SOON, || same(two.project.read("img/a.png")?, ANNAS));
    let berts = two.agent(&two.bert);
    assert_eq!(two.assert_all_kept("img/a.png", &[ANNAS, BERTS]), ANNAS);
    two.assert_readable(b"\0 first");
    end([annas, berts]);
    // Unknown to each other.
    let mut two = Two::start(&[("img/a.png", b"\0 first")]);
    let agents = two.without_server(|two| {
        two.anna.write("img/a.png", ANNAS);
        two.bert.write("img/a.png", BERTS);
    });
    two.assert_all_kept("img/a.png", &[ANNAS, BERTS]);
    two.assert_readable(b"\0 first");
    end(agents);
}

#[test]
fn of_two_new_files_at_one_path_one_wins_and_the_other_is_kept() {
    for versions in [
        [&b"anna's\n"[..], b"bert's\n"],
        [ANNAS, BERTS],
        [b"anna's\n", BERTS],
    ] {
        let two = Two::start(&[]);
        two.anna.write("new/a", versions[0]);
        two.bert.write("new/a", versions[1]);
        let annas = two.agent(&two.anna);
        eventually(SOON, || same(two.project.read("new/a")?, versions[0]));
        let first = two.project.manifest().unwrap()["new/a"].clone();
        let berts = two.agent(&two.bert);
        assert_eq!(two.assert_all_kept("new/a", &versions), versions[0]);
        assert_eq!(
            two.project.manifest().unwrap()["new/a"]["doc"],
            first["doc"]
        );
        end([annas, berts]);
    }
    let mut two = Two::start(&[]);
    let agents = two.without_server(|two| {
        two.anna.write("new/a", "anna's\n");
        two.bert.write("new/a", "bert's\n");
    });
    two.assert_all_kept("new/a", &[b"anna's\n", b"bert's\n"]);
    end(agents);
}

#[test]
fn a_text_becomes_binary_and_text_again() {
    let mut two = Two::start(&[("a.txt", b"words\n")]);
    let first = two.project.document("a.txt");
    let agents = [&two.anna, &two.bert].map(|workspace| two.agent(workspace));
    two.anna.write("a.txt", "words\0\n");
    two.converge(|manifest| {
        ensure!(manifest["a.txt"].get("doc").is_none(), "{manifest}");
        same(two.bert.read("a.txt")?, b"words\0\n")
    });
    two.bert.write("a.txt", "words again\n");
    two.converge(|_| same(two.anna.text("a.txt")?, "words again\n"));
    let again = two.project.document("a.txt");
    assert_ne!(
        first, again,
        "what was binary is no edit of the text before"
    );
    for version in ["words\n", "words\0\n", "words again\n"] {
        two.assert_readable(version.as_bytes());
    }
    let tree = two.project.tree().unwrap();
    assert_eq!(tree.keys().collect::<Vec<_>>(), ["a.txt"]);
    end(agents);

    // Binary here, edited there.
    let agents = two.without_server(|two| {
        two.anna.write("a.txt", "words\0 again\n");
        two.bert.write("a.txt", "words again and more\n");
    });
    two.assert_all_kept("a.txt", &[b"words\0 again\n", b"words again and more\n"]);
    end(agents);
}

#[test]
fn empty_directories_that_one_removes_do_not_come_back() {
    let two = Two::start(&[("b", b"b")]);
    let agents = [&two.anna, &two.bert].map(|workspace| two.agent(workspace));
    let shell = |command| {
        Running::start(&mut two.anna.bash(command))
            .wait()
            .expect_code(0);
    };
    let directories = |expected: &'static [&'static str]| {
        two.converge(|manifest| {
            let paths = manifest.as_object().into_iter().flatten();
            let paths = paths.map(|(path, _)| path).filter(|path| *path != "b");
            same(paths.cloned().collect::<Vec<_>>(), expected.to_vec())
        });
    };
    shell("mkdir -p a/g/h/i");
    directories(&["a/g/h/i"]);
    shell("rm -rf a/g");
    directories(&["a"]);
    // Also where the other has removed as many as were empty there, a barrier later.
    two.bert.run(&["status", "--wait"]).expect_code(0);
    directories(&["a"]);
    end(agents);
}

#[test]
fn what_is_moved_while_no_agent_runs_keeps_its_documents() {
    const MOVED: [(&str, &str); 4] = [
        ("a.txt", "b.txt"),
        ("dir/deep/two.txt", "moved/to/deep/two.txt"),
        ("dir/one.txt", "moved/to/one.txt"),
        ("dir/three", "moved/to/three"),
    ];
    for command in ["watch", "push"] {
        let two = Two::start(&[
            ("a.txt", b"of a\n"),
            ("dir/one.txt", b"of one\n"),
            ("dir/deep/two.txt", b"of two\n"),
            ("dir/three", b"\0 of three"),
        ]);
        let before = two.project.manifest().unwrap();
        let berts = two.agent(&two.bert);
        let moves = "mv a.txt b.txt && mkdir moved && mv dir moved/to";
        Running::start(&mut two.anna.bash(moves))
            .wait()
            .expect_code(0);
        // What somebody does meanwhile moves along.
        two.bert
            .edit("dir/one.txt", "of one\n", "of one\nand bert's\n");
        eventually(SOON, || {
            same(two.project.text("dir/one.txt")?, "of one\nand bert's\n")
        });
        let agent = match command {
            "watch" => Some(two.agent(&two.anna)),
            _ => {
                two.anna.run(&["push"]).expect_code(0);
                two.anna.run(&["pull"]).expect_code(0);
                None
            }
        };
        let after = two.converge(|manifest| {
            let paths: Vec<&String> = manifest
                .as_object()
                .into_iter()
                .flatten()
                .map(|(path, _)| path)
                .collect();
            same(paths, MOVED.map(|(_, to)| to))
        });
        for (from, to) in MOVED {
            for key in ["doc", "kind", "mode"] {
                assert_eq!(
                    after[to][key], before[from][key],
                    "{key} of {to}, by {command}"
                );
            }
        }
        assert_eq!(
            two.anna.text("moved/to/one.txt").unwrap(),
            "of one\nand bert's\n"
        );
        end(agent.into_iter().chain([berts]));
    }
}

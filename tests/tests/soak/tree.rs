//! After a barrier, workspace and project are equal, whatever happened to the tree.

use uspark_tests::{Row, SOON, Server, Workspace, eventually};

#[test]
fn directories_made_and_written_into_at_once() {
    let row = Row::begin("mkdir -p a/b/c and a write");
    let server = Server::start();
    let project = server.project();
    let workspace = Workspace::new(&project);
    let agent = workspace.start(&["watch", "--project-id", &project.id]);
    eventually(SOON, || workspace.equals(&project));
    let rounds = row.count(100, 5);
    for round in 0..rounds {
        workspace.write(&format!("r{round}/a/b/c/f"), "x");
        workspace.run(&["status", "--wait"]).expect_code(0);
        workspace.equals(&project).unwrap();
    }
    agent.terminate().expect_code(0);
    row.held(format!("{rounds} rounds, 0 differences"));
}

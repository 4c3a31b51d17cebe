//! Publishing what Claude Code says, beside the copy of it.

use tokio::time::Instant;

use super::args;
use super::failure::Failure;
use super::keeper::Plan;
use super::place::{Connection, Workspace};
use crate::publish::{LineSink, Publisher};

/// Where lines are that the server has not got, and how they get there.
const KEPT: &str = "what is not sent is kept in .uspark; the next `uspark run --prompt` or \
    `watch-claude --stream-output` in this workspace sends it";

/// The server that a stream is published on; an agent that has the workspace tells nobody its token.
pub fn connection(
    plan: &Plan,
    workspace: &Workspace,
    given: &args::Connection,
) -> Result<Connection, Failure> {
    match plan {
        Plan::Be(connection) => Ok(connection.clone()),
        Plan::Ask(_) => Connection::find(given, workspace.remembered.as_ref()),
    }
}

/// Begins to publish a run.
pub fn begin(
    workspace: &Workspace,
    connection: &Connection,
    run: &str,
) -> Result<(Publisher, LineSink), Failure> {
    let api = connection.api()?;
    Publisher::start(&workspace.root, &workspace.project, run, api).map_err(|error| {
        Failure::new("cannot keep what the stream says in .uspark")
            .cause(error)
            .hint("give this user the right to write there")
    })
}

/// Waits until all is published; what is not is a failure.
pub async fn end(publisher: Option<Publisher>, deadline: Instant) -> Option<Failure> {
    let error = publisher?.finish(deadline).await.err()?;
    let failure = Failure::new("not all that the stream said is published");
    Some(failure.cause(error).hint(KEPT))
}

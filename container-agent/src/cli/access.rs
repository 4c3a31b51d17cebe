//! Whether the token may do what a command is about to do, asked before anything is begun: one
//! clear refusal instead of many pending paths.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use uspark_shared::id::ProjectId;

use super::failure::Failure;
use super::output::{say, span};
use super::place::Connection;
use crate::api::{Access, ApiError, Refusal, TokenInfo};

/// First and longest wait before a server that is away is asked again.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(3));

/// Why a command may not begin.
#[derive(Debug)]
pub enum Denied {
    /// The server cannot be asked now.
    ForNow(Failure),
    /// It says no.
    ForGood(Failure),
}

/// [`check`], again and again while the server is away, for at most `patience`.
pub async fn check_within(
    patience: Duration,
    connection: &Connection,
    project: &ProjectId,
    need: Access,
) -> Result<(), Denied> {
    let deadline = Instant::now() + patience;
    let mut wait = RETRY.0;
    let mut denied = check(connection, project, need).await;
    while let Err(Denied::ForNow(failure)) = &denied {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if wait == RETRY.0 {
            say(format_args!(
                "uspark: the server is away, trying again for {}: {}\n",
                // In whole seconds, and never none.
                span(Duration::from_secs_f64(left.as_secs_f64().ceil())),
                failure.in_one_line()
            ));
        }
        sleep(wait.min(left)).await;
        wait = (wait * 2).min(RETRY.1);
        let again = timeout_at(deadline + RETRY.0, check(connection, project, need)).await;
        denied = match again {
            Ok(Ok(())) => {
                say("uspark: the server is back\n");
                Ok(())
            }
            Ok(denied) => denied,
            Err(_) => break,
        };
    }
    denied
}

/// Asks the server whether the token reaches `project`, and far enough.
async fn check(connection: &Connection, project: &ProjectId, need: Access) -> Result<(), Denied> {
    let api = connection.api()?;
    let (token, found) = tokio::join!(api.token_info(), api.check_project(project));
    suits(&token?, project, need).map_err(Denied::ForGood)?;
    match found {
        Err(error) if error.refusal() == Some(Refusal::NotFound) => {
            let failure = Failure::new(format!("there is no project `{project}` for this token"));
            let hint = "check the id; `uspark auth status` says what the token is for";
            Err(Denied::ForGood(failure.hint(hint)))
        }
        found => Ok(found?),
    }
}

fn suits(token: &TokenInfo, project: &ProjectId, need: Access) -> Result<(), Failure> {
    if let Some(other) = token.project.as_ref().filter(|other| *other != project) {
        let message = format!("the token is for the project `{other}`, not for `{project}`");
        return Err(Failure::new(message)
            .hint("give its own project with --project-id, or another token with --token"));
    }
    if token.access < need {
        return Err(
            Failure::new("the token only reads: nothing can be sent with it")
                .hint("`uspark pull` works with it; for more ask for a token that may write"),
        );
    }
    Ok(())
}

impl Denied {
    /// What it says.
    pub fn failure(self) -> Failure {
        match self {
            Self::ForNow(failure) | Self::ForGood(failure) => failure,
        }
    }
}

impl From<ApiError> for Denied {
    fn from(error: ApiError) -> Self {
        // A certificate that is not accepted now will not be in a minute.
        match error.is_transient() && !error.is_untrusted() {
            true => Self::ForNow(error.into()),
            false => Self::ForGood(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reaches_its_project_and_its_verbs() {
        let token = |project: Option<&str>, access| TokenInfo {
            id: "t".into(),
            project: project.map(|project| project.parse().unwrap()),
            access,
            expires_at: None,
        };
        let p = "p".parse().unwrap();
        for (token, need, fine) in [
            (token(Some("p"), Access::Read), Access::Read, true),
            (token(Some("p"), Access::Read), Access::Write, false),
            (token(Some("p"), Access::Admin), Access::Write, true),
            (token(Some("q"), Access::Admin), Access::Read, false),
            (token(None, Access::Write), Access::Write, true),
        ] {
            assert_eq!(suits(&token, &p, need).is_ok(), fine, "{token:?} {need:?}");
        }
    }
}

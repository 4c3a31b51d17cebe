//! The server's own admin token: given, kept from the last start, or made.

use std::path::PathBuf;

use super::{AppState, StartError};
use crate::access::{Access, NewToken, Token, TokenError, TokenScope};
use crate::store::{ADMIN_TOKEN, DataDirectory};

/// Who makes it, for the audit log.
const ACTOR: &str = "server";

/// The token, and where it is kept.
pub(super) struct Admin {
    pub token: Token,
    pub file: Option<PathBuf>,
    /// It was made now: nobody has seen it yet.
    pub is_new: bool,
}

/// Takes the token that was given, or the one that is kept, or makes one and keeps it.
pub(super) async fn settle(
    state: &AppState,
    directory: &DataDirectory,
    given: Option<Token>,
) -> Result<Admin, StartError> {
    if let Some(token) = given {
        let adopted = adopt(state, &token).await;
        adopted.map_err(StartError::GivenToken)?;
        return Ok(Admin {
            token,
            file: None,
            is_new: false,
        });
    }
    let path = directory.path().join(ADMIN_TOKEN);
    let Some(saved) = directory.read_private(ADMIN_TOKEN)? else {
        let now = (state.clock)();
        let minted = state.tokens.mint(the_server(), ACTOR, now).await;
        let (_, token) = minted.map_err(StartError::NoToken)?;
        let file =
            directory.save_private(ADMIN_TOKEN, format!("{}\n", token.reveal()).as_bytes())?;
        return Ok(Admin {
            token,
            file: Some(file),
            is_new: true,
        });
    };
    let failed = |reason: String| StartError::SavedToken {
        path: path.clone(),
        reason,
    };
    let saved = String::from_utf8_lossy(&saved);
    let token: Token = saved
        .trim()
        .parse()
        .map_err(|_| failed("it is no token".into()))?;
    // Into a database that never knew it, too: one restored from a backup, for instance.
    let adopted = adopt(state, &token).await;
    adopted.map_err(|error| failed(error.to_string()))?;
    Ok(Admin {
        token,
        file: Some(path),
        is_new: false,
    })
}

async fn adopt(state: &AppState, token: &Token) -> Result<(), TokenError> {
    let grant = state
        .tokens
        .adopt(token, the_server(), ACTOR, (state.clock)())
        .await?;
    // It may be known as a project's.
    grant.allows_server(Access::Admin)?;
    Ok(())
}

fn the_server() -> NewToken {
    NewToken {
        scope: TokenScope::Server,
        access: Access::Admin,
        expires_at: None,
        name: Some("admin".into()),
    }
}

//! `diff`: what differs between workspace and project now. Only reads, and asks no agent.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::{Value, json};
use uspark_shared::id::{BlobHash, ProjectId};
use uspark_shared::path::FilePath;
use uspark_shared::text::MAX_GROWN_TEXT_BYTES;

use super::args;
use super::failure::Failure;
use super::output::{Output, no_such, of, say};
use super::paths::Scope;
use super::place::{Connection, Missing, Workspace};
use crate::api::Api;
use crate::api::manifest::Version;
use crate::compare::patch::{Patch, patch, quoted};
use crate::compare::{Difference, compare};
use crate::control::message::Reason;
use crate::disk::Root;

/// Texts fetched at once.
const FETCHES: usize = 6;
/// Signs of a bar in `--stat`.
const BAR: u64 = 40;
/// Exit code of `--exit-code` when something differs, as of `git diff`.
const DIFFERS: u8 = 1;

/// Runs `diff`.
pub async fn diff(given: args::Diff, output: Output) -> Result<u8, Failure> {
    let named = given.project_id.as_ref();
    let workspace = Workspace::at(named, given.workspace.as_deref(), Missing::IsAnError)?;
    let only = Scope::parse(&given.paths, &workspace.current, &workspace.root)?.into_paths();
    let connection = Connection::find(&given.connection, workspace.remembered.as_ref())?;
    let api = connection.api()?;
    let manifest = api.manifest(&workspace.project).await?;
    let root = workspace.root.clone();
    let compared = tokio::task::spawn_blocking(move || {
        let root = Root::open(&root)?;
        compare(&root, &manifest.files, &only)
    });
    let compared = compared.await.map_err(|error| {
        Failure::new(format!("the comparison broke: {error}")).hint("USPARK_LOG=debug says more")
    })?;
    let differences = compared.map_err(|error| {
        Failure::new("cannot compare the workspace")
            .cause(error)
            .hint("is it still there?")
    })?;
    let unknown: Vec<Reason> = differences.unknown.iter().map(unknown).collect();
    let patches: Vec<(Difference, Patch)> = stream::iter(differences.found)
        .map(|difference| written(&api, &workspace.project, difference))
        .buffered(FETCHES)
        .try_collect()
        .await?;

    for (path, why) in &differences.skipped {
        say(format_args!(
            "warning: not synced: {}: {why}\n",
            path.escape_debug()
        ));
    }
    let lines = match given.stat {
        true => statistics(&patches),
        false => patches
            .iter()
            .map(|(_, patch)| patch.text.as_str())
            .collect(),
    };
    let object = json!({
        "command": "diff",
        "project": workspace.project,
        "differences": patches.iter().map(|found| object(found, given.stat)).collect::<Vec<_>>(),
        "skipped": differences.skipped.iter()
            .map(|(path, why)| json!({"path": path, "why": why}))
            .collect::<Vec<_>>(),
        "unknown": unknown,
    });
    let lines = match io::stdout().is_terminal() {
        true => harmless(&lines),
        false => lines,
    };
    let code = output.conclude(&lines, object, no_such(&unknown));
    Ok(match given.exit_code && !patches.is_empty() {
        true => DIFFERS,
        false => code,
    })
}

fn unknown(path: &FilePath) -> Reason {
    Reason {
        why: format!("there is no `{path}` here or in the project"),
        path: Some(path.to_string()),
    }
}

/// Writes a difference; for that the project's text may have to be fetched.
async fn written(
    api: &Api,
    project: &ProjectId,
    difference: Difference,
) -> Result<(Difference, Patch), Failure> {
    let text = match &difference.project {
        Some(Version::Text(file)) if is_shown(&difference) => {
            Some(fetch(api, project, &file.hash).await?)
        }
        _ => None,
    };
    let patch = patch(&difference, text.as_deref());
    Ok((difference, patch))
}

/// Whether a difference is shown line by line: nothing in it is binary.
fn is_shown(difference: &Difference) -> bool {
    !matches!(difference.workspace, Some(Version::Binary(_)))
}

async fn fetch(api: &Api, project: &ProjectId, hash: &BlobHash) -> Result<String, Failure> {
    let mut pieces = api.get_blob(project, hash, 0).await?;
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > MAX_GROWN_TEXT_BYTES {
            break;
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) if BlobHash::of(text.as_bytes()) == *hash => Ok(text),
        _ => Err(
            Failure::new(format!("the server sent other bytes than blob {hash}"))
                .hint("try again; is there a proxy between?"),
        ),
    }
}

fn object((difference, patch): &(Difference, Patch), stat: bool) -> Value {
    let mut object = json!({
        "path": difference.path,
        "project": difference.project,
        "workspace": difference.workspace,
        "insertions": patch.insertions,
        "deletions": patch.deletions,
    });
    if !stat {
        object["diff"] = json!(patch.text);
    }
    object
}

fn statistics(patches: &[(Difference, Patch)]) -> String {
    let names: Vec<String> = patches
        .iter()
        .map(|(found, _)| quoted("", &found.path))
        .collect();
    let width = names
        .iter()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or_default();
    let most = patches
        .iter()
        .map(|(_, patch)| patch.insertions + patch.deletions)
        .max();
    let scale = most.unwrap_or_default().max(BAR);
    let mut lines = String::new();
    let (mut insertions, mut deletions) = (0, 0);
    for (name, (difference, patch)) in names.iter().zip(patches) {
        insertions += patch.insertions;
        deletions += patch.deletions;
        let changed = patch.insertions + patch.deletions;
        let bar = |sign: &str, count: u64| sign.repeat((count * BAR).div_ceil(scale) as usize);
        let what = match changed {
            0 => kinds(difference),
            _ => format!(
                "{changed} {}{}",
                bar("+", patch.insertions),
                bar("-", patch.deletions)
            ),
        };
        let _ = writeln!(lines, " {name:width$} | {what}");
    }
    if !patches.is_empty() {
        let count = |n: u64, noun| of(usize::try_from(n).unwrap_or(usize::MAX), noun);
        let _ = writeln!(
            lines,
            " {} changed, {}(+), {}(-)",
            of(patches.len(), "path"),
            count(insertions, "insertion"),
            count(deletions, "deletion")
        );
    }
    lines
}

/// What each side has, of a difference without lines.
fn kinds(difference: &Difference) -> String {
    let kind = |version: &Option<Version>| match version {
        None => "nothing".to_owned(),
        Some(Version::Text(file)) => format!("text, {} bytes, {:o}", file.size, file.mode),
        Some(Version::Binary(file)) => format!("binary, {} bytes, {:o}", file.size, file.mode),
        Some(Version::Link { .. }) => "link".to_owned(),
        Some(Version::Dir) => "empty directory".to_owned(),
    };
    format!(
        "{} -> {}",
        kind(&difference.project),
        kind(&difference.workspace)
    )
}

/// A file may hold anything; a terminal must not obey it.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => harmless.push(c),
            c if c.is_control() => harmless.extend(c.escape_debug()),
            c => harmless.push(c),
        }
    }
    harmless
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cannot_command_the_terminal() {
        let text = "+\u{1b}[2J\r\n\tä\u{9b}\n";
        assert_eq!(harmless(text), "+\\u{1b}[2J\\r\n\tä\\u{9b}\n");
    }
}

//! Events: numbered as they are written, and cut at the old end.

use rusqlite::{Connection, OptionalExtension as _, params};
use uspark_shared::id::ProjectId;

use super::super::{EVENT_PAGE_BYTES, EventPage, EventRecord, Refused, RunLines};
use super::integer;
use super::reads::damaged;
use super::writes::Stopped;

/// Adds events and lets go of the oldest.
pub(super) fn append(
    db: &Connection,
    project: &ProjectId,
    events: &[EventRecord],
    keep: u64,
) -> Result<(), Stopped> {
    let (mut last, _) = numbers(db, project)?;
    let mut insert =
        db.prepare_cached("INSERT INTO events (project, number, event) VALUES (?1, ?2, ?3)")?;
    for event in events {
        last += 1;
        let json = serde_json::to_string(event).expect("strings and numbers are always valid JSON");
        insert.execute(params![project.as_str(), integer(last), json])?;
    }
    let cut = integer(last.saturating_sub(keep));
    db.prepare_cached(
        "INSERT INTO event_numbers (project, last, cut) VALUES (?1, ?2, ?3)
         ON CONFLICT (project) DO UPDATE SET last = excluded.last, cut = max(cut, excluded.cut)",
    )?
    .execute(params![project.as_str(), integer(last), cut])?;
    db.prepare_cached("DELETE FROM events WHERE project = ?1 AND number <= ?2")?
        .execute(params![project.as_str(), cut])?;
    Ok(())
}

/// Adds those of a run's lines that are not there.
pub(super) fn append_lines(db: &Connection, lines: &RunLines) -> Result<(), Stopped> {
    if !exists(db, &lines.project)? {
        return Err(Refused::NoSuchProject(lines.project.clone()).into());
    }
    let run = (lines.project.as_str(), lines.run.as_str());
    let stored = db
        .prepare_cached("SELECT lines FROM runs WHERE project = ?1 AND run = ?2")?
        .query_row(run, |row| row.get(0))
        .optional()?;
    let new = lines.missing(stored.unwrap_or(0))?;
    if new.is_empty() {
        return Ok(());
    }
    append(db, &lines.project, &new, lines.keep)?;
    db.prepare_cached(
        "INSERT INTO runs (project, run, lines) VALUES (?1, ?2, ?3)
         ON CONFLICT (project, run) DO UPDATE SET lines = excluded.lines",
    )?
    .execute(params![run.0, run.1, integer(lines.last())])?;
    Ok(())
}

/// A project is deleted: that takes a number too, so that whoever had seen all of its events
/// learns that a later project of its id is another one.
pub(super) fn end(db: &Connection, project: &ProjectId) -> Result<(), Stopped> {
    db.prepare_cached(
        "INSERT INTO event_numbers (project, last, cut) VALUES (?1, 1, 1)
         ON CONFLICT (project) DO UPDATE SET last = last + 1, cut = last + 1",
    )?
    .execute([project.as_str()])?;
    Ok(())
}

/// Reads in one transaction: what is cut meanwhile must not look like a gap.
pub(super) fn page(
    db: &Connection,
    project: &ProjectId,
    after: u64,
    limit: usize,
) -> rusqlite::Result<Option<EventPage>> {
    let transaction = db.unchecked_transaction()?;
    if !exists(db, project)? {
        return Ok(None);
    }
    let (last, cut) = numbers(db, project)?;
    let mut statement = db.prepare_cached(
        "SELECT number, event FROM events WHERE project = ?1 AND number > ?2
         ORDER BY number LIMIT ?3",
    )?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    let mut rows = statement.query(params![
        project.as_str(),
        integer(after),
        integer(limit as u64)
    ])?;
    while bytes < EVENT_PAGE_BYTES
        && let Some(row) = rows.next()?
    {
        let json = row.get_ref(1)?.as_str().map_err(|e| damaged(1, e))?;
        bytes += json.len();
        let event = serde_json::from_str(json).map_err(|e| damaged(1, e))?;
        events.push((row.get(0)?, event));
    }
    drop(rows);
    transaction.finish()?;
    Ok(Some(EventPage { events, last, cut }))
}

/// The number given last, and the one up to which no event is kept.
fn numbers(db: &Connection, project: &ProjectId) -> rusqlite::Result<(u64, u64)> {
    let found = db
        .prepare_cached("SELECT last, cut FROM event_numbers WHERE project = ?1")?
        .query_row([project.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(found.unwrap_or((0, 0)))
}

fn exists(db: &Connection, project: &ProjectId) -> rusqlite::Result<bool> {
    db.prepare_cached("SELECT 1 FROM projects WHERE id = ?1")?
        .exists([project.as_str()])
}

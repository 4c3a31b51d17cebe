//! `/api/projects/{id}/events`: what happens in a project, as server-sent events, and the lines of
//! a run that are published among it.
//!
//! Invariants:
//! - A stream shows what is durable, in order, each event once; where it cannot, it says `lagged`.
//! - Nothing is queued for a reader: it is woken, and reads a page at a time as fast as it can.

mod follower;
mod right;

use std::convert::Infallible;
use std::num::NonZeroU64;
use std::str::FromStr;

use axum::Json;
use axum::body::Body;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};

use super::audit::note;
use super::body;
use super::caller::{Asked, Caller, Named};
use crate::access::Access;
use crate::refusal::Refusal;
use crate::server::{AppState, CutOff};
use crate::socket::Watch;
use crate::store::{RunLines, Write};

use follower::Follower;
use right::Right;

/// Where a client that has lost its connection was.
const LAST_EVENT_ID: &str = "last-event-id";
/// Bytes of the lines in one call.
const CALL_BYTES: u64 = 4 << 20;
/// Lines in one call.
const CALL_LINES: usize = 1000;
/// Bytes of one line.
const LINE_BYTES: usize = 256 << 10;
/// Bytes of a run's name, as of every claim.
const RUN_BYTES: usize = 256;

/// An event's place: its number, and the epoch of the store that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EventId {
    epoch: String,
    number: u64,
}

/// After what a reader wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// Everything that is kept.
    Oldest,
    /// Only what comes from now on.
    Now,
    /// This event.
    After(EventId),
}

/// Starts before the token is looked at, so that no revocation falls between the two.
pub(super) struct Watching(Watch, Option<CutOff>);

#[derive(Deserialize)]
pub(super) struct Place {
    after: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Lines {
    run: String,
    /// The number of the first line.
    from: NonZeroU64,
}

#[derive(Serialize)]
struct Published {
    /// The number of the line that comes next.
    next: u64,
}

/// `GET …/events`: a stream that ends only with its reader, its token, the project or the server.
pub(super) async fn follow(
    Watching(watch, cut_off): Watching,
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
    Asked(from): Asked<Place>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Read)?;
    let start = start(&headers, from.after.as_deref())?;
    let right = Right::watch(&state.tasks, caller.grant.clone(), watch, cut_off);
    let follower = Follower::begin(&state, project.clone(), right, start).await?;
    note(
        &state,
        &caller,
        "project.read",
        Some(&project),
        "events".into(),
    );
    let body = stream::unfold(follower, |mut follower| async {
        let bytes = follower.next().await?;
        Some((Ok::<_, Infallible>(bytes), follower))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/event-stream"),
        ),
        (
            header::CACHE_CONTROL,
            HeaderValue::from_static("private, no-store"),
        ),
        // nginx would collect it.
        (
            HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((headers, Body::from_stream(body)).into_response())
}

/// `POST …/events?run=&from=`: lines of a run; those that are there already are left as they are.
pub(super) async fn publish(
    caller: Caller,
    State(state): State<AppState>,
    Named(id): Named<String>,
    Asked(Lines { run, from }): Asked<Lines>,
    body: Body,
) -> Result<Response, Refusal> {
    let project = caller.project(&id, Access::Write)?;
    if run.is_empty() || run.len() > RUN_BYTES {
        let why = format!("`run` has 1 to {RUN_BYTES} bytes");
        return Err(Refusal::Malformed(why));
    }
    let lines = lines(&body::read(body, CALL_BYTES).await?)?;
    let next = from.get().checked_add(lines.len() as u64);
    let next = next.ok_or_else(|| Refusal::Malformed("`from` is too large".into()))?;
    let mut who = caller.who().origin();
    if let Some(who) = &mut who {
        who.run = Some(run.clone());
    }
    let lines = RunLines {
        project,
        run,
        from: from.get(),
        lines,
        at: (state.clock)(),
        who,
        keep: state.limits.kept_events,
    };
    state.committer.commit(vec![Write::Lines(lines)]).await?;
    Ok(Json(Published { next }).into_response())
}

/// The header counts: whoever comes back asks for the same address as before.
fn start(headers: &HeaderMap, after: Option<&str>) -> Result<Start, Refusal> {
    let header = headers.get(LAST_EVENT_ID).filter(|id| !id.is_empty());
    match (header, after) {
        // What is no text is no id either.
        (Some(id), _) => id.to_str().unwrap_or_default().parse().map(Start::After),
        (None, None) => Ok(Start::Oldest),
        (None, Some("now")) => Ok(Start::Now),
        (None, Some(id)) => id.parse().map(Start::After),
    }
}

/// The lines of a body; the last one may lack its end.
fn lines(body: &[u8]) -> Result<Vec<String>, Refusal> {
    let text = str::from_utf8(body);
    let text = text.map_err(|error| Refusal::Malformed(format!("lines are UTF-8: {error}")))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let text = text.strip_suffix('\n').unwrap_or(text);
    let lines: Vec<String> = text
        .split('\n')
        .take(CALL_LINES + 1)
        .map(str::to_owned)
        .collect();
    if lines.len() > CALL_LINES {
        let why = format!("at most {CALL_LINES} lines are taken at once");
        return Err(Refusal::Malformed(why));
    }
    if lines.iter().any(|line| line.len() > LINE_BYTES) {
        return Err(Refusal::TooLarge(LINE_BYTES as u64));
    }
    Ok(lines)
}

impl FromStr for EventId {
    type Err = Refusal;

    fn from_str(id: &str) -> Result<Self, Refusal> {
        let parsed = id.rsplit_once('.').and_then(|(epoch, number)| {
            let (epoch, number) = (epoch.to_owned(), number.parse().ok()?);
            Some(Self { epoch, number })
        });
        let why = || "an event's id is what stands behind `id:` in the stream".into();
        parsed.ok_or_else(|| Refusal::Malformed(why()))
    }
}

impl FromRequestParts<AppState> for Watching {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let cut_off = parts.extensions.get().cloned();
        Ok(Self(Watch::start(state), cut_off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_stands_before_an_end() {
        let lines = |body: &str| super::lines(body.as_bytes()).unwrap();
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("\n"), [""]);
        assert_eq!(lines("a"), ["a"]);
        assert_eq!(lines("a\n\nb\r\n"), ["a", "", "b\r"]);
        assert_eq!(lines(&"\n".repeat(CALL_LINES)).len(), CALL_LINES);
        assert_eq!(lines(&"x".repeat(LINE_BYTES)).len(), 1);
    }

    #[test]
    fn what_is_too_much_is_refused() {
        assert!(matches!(
            lines(&b"\n".repeat(CALL_LINES + 1)),
            Err(Refusal::Malformed(_))
        ));
        assert!(matches!(
            lines(&b"x".repeat(LINE_BYTES + 1)),
            Err(Refusal::TooLarge(_))
        ));
        assert!(matches!(lines(b"\xff"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn where_to_begin_is_in_the_header_or_the_address() {
        let headers = |id: &str| {
            HeaderMap::from_iter([(
                HeaderName::from_static(LAST_EVENT_ID),
                HeaderValue::from_str(id).unwrap(),
            )])
        };
        let after = |number| {
            Ok(Start::After(EventId {
                epoch: "e-_".into(),
                number,
            }))
        };
        assert_eq!(start(&headers("e-_.7"), Some("e-_.3")), after(7));
        assert_eq!(start(&headers(""), Some("e-_.3")), after(3));
        assert_eq!(start(&HeaderMap::new(), Some("now")), Ok(Start::Now));
        assert_eq!(start(&HeaderMap::new(), None), Ok(Start::Oldest));
        for bad in ["7", "e.", "e.-1", "e.x", "."] {
            assert!(start(&headers(bad), None).is_err(), "{bad}");
        }
    }
}

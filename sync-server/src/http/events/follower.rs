//! One reader of a project's events.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::sync::watch;
use tokio::time::sleep;
use uspark_shared::id::ProjectId;

use super::right::Right;
use super::{EventId, Start};
use crate::refusal::Refusal;
use crate::server::AppState;
use crate::store::{EventPage, EventRecord, Happening, Store, read as read_store};

/// Events that are read at once; the store bounds their bytes.
const PAGE: usize = 256;
/// How long a stream may say nothing: proxies give up on one after 30 to 60 s.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A comment: clients pass over it.
const COMMENT: &[u8] = b": \n\n";

/// Where a reader is, and whether it may still be there.
pub(super) struct Follower {
    store: Arc<dyn Store>,
    project: ProjectId,
    right: Right,
    news: watch::Receiver<()>,
    /// The number of the last event that it was given.
    after: u64,
    /// What goes out before anything else.
    first: Option<String>,
}

impl Follower {
    /// Finds the place to begin. There must be such a project.
    pub(super) async fn begin(
        state: &AppState,
        project: ProjectId,
        right: Right,
        start: Start,
    ) -> Result<Self, Refusal> {
        let mut follower = Self {
            // Before the first look.
            news: state.committer.news().follow(&project),
            store: Arc::clone(&state.store),
            project,
            right,
            after: 0,
            first: None,
        };
        let page = follower.read(0).await?;
        let EventPage { last, cut, .. } = page.ok_or(Refusal::NotFound("project"))?;
        let lost = match &start {
            Start::After(id) => follower.lost(id, last, cut),
            Start::Oldest | Start::Now => None,
        };
        follower.after = match &start {
            Start::After(id) if lost.is_none() => id.number,
            Start::Now => last,
            Start::After(_) | Start::Oldest => cut,
        };
        let mut first = format!("retry: 1000\nid: {}\n\n", follower.id(follower.after));
        if let Some(why) = lost {
            follower.lagged(why, &mut first);
        }
        follower.first = Some(first);
        Ok(follower)
    }

    /// The next bytes of the stream; `None` when it is over.
    pub(super) async fn next(&mut self) -> Option<Bytes> {
        loop {
            // What comes from here on wakes it again.
            self.news.mark_unchanged();
            let page = tokio::select! {
                biased;
                () = self.right.over() => return None,
                page = Self::page(&self.store, &self.project, self.after, PAGE) => page,
            };
            // The store's trouble is in the log, and a project that is gone has no events. The
            // client comes back and is told.
            let page = page.ok().flatten()?;
            let mut out = self.first.take().unwrap_or_default();
            self.show(page, &mut out);
            if !out.is_empty() {
                return Some(out.into());
            }
            tokio::select! {
                biased;
                () = self.right.over() => return None,
                changed = self.news.changed() => changed.ok()?,
                () = sleep(HEARTBEAT) => return Some(Bytes::from_static(COMMENT)),
            }
        }
    }

    async fn read(&self, limit: usize) -> Result<Option<EventPage>, Refusal> {
        Self::page(&self.store, &self.project, self.after, limit).await
    }

    async fn page(
        store: &Arc<dyn Store>,
        project: &ProjectId,
        after: u64,
        limit: usize,
    ) -> Result<Option<EventPage>, Refusal> {
        let project = project.clone();
        let page = read_store(store, move |store| store.events(&project, after, limit));
        Ok(page.await?)
    }

    /// Why a client that was at `id` may have missed something.
    fn lost(&self, id: &EventId, last: u64, cut: u64) -> Option<&'static str> {
        if id.epoch != self.store.epoch() {
            Some("epoch")
        } else if id.number > last {
            Some("ahead")
        } else if id.number < cut {
            Some("cut")
        } else {
            None
        }
    }

    fn show(&mut self, page: EventPage, out: &mut String) {
        if page.cut > self.after {
            self.after = page.cut;
            self.lagged("cut", out);
        }
        for (number, event) in page.events {
            let name = match event.what {
                Happening::Line { .. } => "line",
                _ => "change",
            };
            self.after = number;
            self.block(name, &Shown { number, event }, out);
        }
    }

    fn lagged(&self, why: &'static str, out: &mut String) {
        let (number, what) = (self.after, "lagged");
        self.block("lagged", &Lagged { number, what, why }, out);
    }

    fn block(&self, name: &str, data: &impl Serialize, out: &mut String) {
        let data = serde_json::to_string(data).expect("strings and numbers are always valid JSON");
        out.push_str(&format!(
            "id: {}\nevent: {name}\ndata: {data}\n\n",
            self.id(self.after)
        ));
    }

    fn id(&self, number: u64) -> String {
        format!("{}.{number}", self.store.epoch())
    }
}

/// What the reader had before this place cannot be made whole.
#[derive(Serialize)]
struct Lagged {
    number: u64,
    what: &'static str,
    why: &'static str,
}

#[derive(Serialize)]
struct Shown {
    number: u64,
    #[serde(flatten)]
    event: EventRecord,
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::access::{Access, Grant, TokenScope};
    use crate::blobs::LargeBlobs;
    use crate::config::Config;
    use crate::socket::Watch;
    use crate::store::{
        BlobFiles, DataDirectory, EVENT_PAGE_BYTES, MemoryStore, ProjectRecord, RunLines, Write,
    };

    /// A server's parts, over a store in memory with a project `p`.
    pub async fn state() -> (tempfile::TempDir, AppState) {
        let directory = tempfile::tempdir().unwrap();
        let data = DataDirectory::open(directory.path()).unwrap();
        let large: Arc<dyn LargeBlobs> = Arc::new(BlobFiles::open(&data).unwrap());
        let store = Arc::new(MemoryStore::new("epoch"));
        let state = AppState::new(&Config::local(directory.path()), store, large);
        let project = ProjectRecord {
            id: "p".parse().unwrap(),
            name: None,
            created_at: 0,
        };
        state
            .committer
            .commit(vec![Write::CreateProject(project)])
            .await
            .unwrap();
        (directory, state)
    }

    async fn follower(state: &AppState, start: Start) -> Follower {
        let grant = Grant {
            token_id: "abcdefghijkl".parse().unwrap(),
            name: None,
            scope: TokenScope::Server,
            access: Access::Read,
            expires_at: None,
        };
        let right = Right::watch(&state.tasks, grant, Watch::start(state), None);
        let project = "p".parse().unwrap();
        Follower::begin(state, project, right, start).await.unwrap()
    }

    async fn say(state: &AppState, from: u64, lines: Vec<String>) {
        let lines = RunLines {
            project: "p".parse().unwrap(),
            run: "r".into(),
            from,
            lines,
            at: 1,
            who: None,
            keep: 1_000,
        };
        state
            .committer
            .commit(vec![Write::Lines(lines)])
            .await
            .unwrap();
    }

    fn text(bytes: Option<Bytes>) -> String {
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_events_says_something_every_15_seconds() {
        let (_directory, state) = state().await;
        let mut follower = follower(&state, Start::Oldest).await;
        assert_eq!(text(follower.next().await), "retry: 1000\nid: epoch.0\n\n");
        for _ in 0..3 {
            let began = Instant::now();
            assert_eq!(text(follower.next().await), ": \n\n");
            let silent = began.elapsed();
            assert!(silent >= HEARTBEAT && silent < 2 * HEARTBEAT, "{silent:?}");
        }
        say(&state, 1, vec!["said".into()]).await;
        let expected = "id: epoch.1\nevent: line\ndata: {\"number\":1,\"at\":1,\"what\":\"line\",\
                        \"run\":\"r\",\"line\":1,\"text\":\"said\",\"who\":null}\n\n";
        assert_eq!(text(follower.next().await), expected);
    }

    /// Nothing is kept for whoever does not read: what it gets at once is a page.
    #[tokio::test]
    async fn a_reader_that_is_far_behind_gets_all_of_it_page_by_page() {
        const LINES: usize = 200;
        let (_directory, state) = state().await;
        let mut follower = follower(&state, Start::Oldest).await;
        let line = "x".repeat(32 << 10);
        for from in 0..LINES / 10 {
            say(&state, from as u64 * 10 + 1, vec![line.clone(); 10]).await;
        }
        let (mut got, mut chunks) = (0, 0);
        while got < LINES {
            let chunk = text(follower.next().await);
            assert!(
                chunk.len() < EVENT_PAGE_BYTES + 2 * line.len(),
                "{}",
                chunk.len()
            );
            for block in chunk
                .split("\n\n")
                .filter(|block| block.contains("event: line"))
            {
                got += 1;
                assert!(
                    block.starts_with(&format!("id: epoch.{got}\n"))
                        || block.contains(&format!("\nid: epoch.{got}\n"))
                );
            }
            chunks += 1;
        }
        assert!(chunks > 10, "{chunks}");
    }

    #[tokio::test]
    async fn who_may_have_missed_something_is_told() {
        let (_directory, state) = state().await;
        let events = |at: std::ops::RangeInclusive<u64>| at.map(|line| line.to_string()).collect();
        say(&state, 1, events(1..=3)).await;
        let after = |epoch: &str, number| {
            let epoch = epoch.to_owned();
            Start::After(EventId { epoch, number })
        };
        for (start, why) in [
            (after("epoch", 3), None),
            (after("epoch", 0), None),
            (after("epoch", 4), Some("ahead")),
            (after("other", 2), Some("epoch")),
        ] {
            let said = text(follower(&state, start).await.next().await);
            let lagged = said.lines().find(|line| line.contains("\"lagged\""));
            let expected = why
                .map(|why| format!("data: {{\"number\":0,\"what\":\"lagged\",\"why\":\"{why}\"}}"));
            assert_eq!(lagged, expected.as_deref(), "{said}");
        }
        // It was at 1, read no further, and the next two were cut.
        let mut slow = follower(&state, after("epoch", 1)).await;
        slow.first = None;
        let lines = RunLines {
            project: "p".parse().unwrap(),
            run: "r".into(),
            from: 4,
            lines: events(4..=5),
            at: 1,
            who: None,
            keep: 2,
        };
        state
            .committer
            .commit(vec![Write::Lines(lines)])
            .await
            .unwrap();
        let said = text(slow.next().await);
        let ids: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("id: "))
            .collect();
        assert_eq!(ids, ["epoch.3", "epoch.4", "epoch.5"]);
        assert!(
            said.starts_with("id: epoch.3\nevent: lagged\n") && said.contains("\"why\":\"cut\""),
            "{said}"
        );
        let said = text(follower(&state, after("epoch", 1)).await.next().await);
        assert!(said.contains("\"why\":\"cut\""), "{said}");
        // Who asks for no place gets what there is.
        let said = text(follower(&state, Start::Oldest).await.next().await);
        assert!(
            !said.contains("lagged")
                && said.contains("id: epoch.3\n\n")
                && said.contains("epoch.5"),
            "{said}"
        );
        let said = text(follower(&state, Start::Now).await.next().await);
        assert_eq!(said, "retry: 1000\nid: epoch.5\n\n");
    }
}

//! Many come to a document that is not in memory, while memory is short.

use std::sync::atomic::{AtomicBool, Ordering};

use uspark_shared::id::DocumentName;
use uspark_tests::Row;

use super::super::*;

/// How many come at once, in the short form, and how many of them write.
const PEOPLE: usize = 200;
const FEW: usize = 50;
const WRITERS: usize = 4;
/// Rounds with one text: it grows by what they write.
const ROUNDS_TO_TEXT: usize = 10;

#[test]
fn first_joins_against_eviction() {
    let mut row = Row::begin("first joins of a cold document against eviction");
    let rounds = row.count(10_000, 100);
    let people = if row.is_full() { PEOPLE } else { FEW };
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(2).enable_all().build().unwrap();
    let (mut loads, mut evictions) = (0, 0);
    runtime.block_on(async {
        // One byte: everything that nobody has open is asked to go.
        let mut server = Arc::new(Server::with_cache(1).await);
        for round in 0..rounds {
            if round % 1000 == 0 {
                row.tell(format_args!(
                    "{round} rounds, {loads} loads, {evictions} evictions"
                ));
            }
            if round % ROUNDS_TO_TEXT == 0 {
                let project = format!("p{round}").parse().unwrap();
                server = Arc::new(Server {
                    project,
                    ..(*server).clone()
                });
                server.create_project().await;
                server.text_file("a", "a", "").await;
            }
            server.is_cold().await;
            let before = server.counts();
            let words = (round % ROUNDS_TO_TEXT + 1) * WRITERS;
            Arc::clone(&server)
                .round(row.random.fork(), people, round, words)
                .await;
            let after = server.counts();
            let (loaded, evicted) = (after.0 - before.0, after.1 - before.1);
            // The first load, and one for each time that it had left: no copy beside another.
            assert!(
                (1..=1 + evicted).contains(&loaded),
                "round {round}: loaded {loaded} times, evicted {evicted} times"
            );
            loads += loaded;
            evictions += evicted;
        }
    });
    row.held(format_args!(
        "{rounds} rounds of {people} people, {loads} loads, {evictions} evictions while they came, all equal"
    ));
}

impl Server {
    /// How often the text was loaded, and left memory.
    fn counts(&self) -> (usize, usize) {
        let name = DocumentName::of_text(self.project.clone(), "a".parse().unwrap());
        let evicted = |kind| self.measured(&format!("uspark_evictions_total{{kind=\"{kind}\"}}"));
        (
            self.store.loads(&name),
            evicted("text") + evicted("project"),
        )
    }

    /// Everybody comes; some go at once, some write; who stays sees all `words` of this and earlier rounds.
    async fn round(
        self: Arc<Self>,
        mut random: fastrand::Rng,
        people: usize,
        round: usize,
        words: usize,
    ) {
        let over = Arc::new(AtomicBool::new(false));
        let people = (0..people).map(|number| {
            let (mut random, over, server) = (random.fork(), Arc::clone(&over), Arc::clone(&self));
            tokio::spawn(async move {
                // Some are late, and find that those before them have gone.
                for _ in 0..random.u32(..8).pow(2) {
                    tokio::task::yield_now().await;
                }
                let mut person = server.person(Some("a")).await;
                if number < WRITERS {
                    let text = person.text.text();
                    person.write(&format!("{text}<{round}.{number}>")).await;
                    person.is_saved(1).await;
                } else if random.u8(..4) == 0 {
                    person.handle.leave(person.id).await;
                    person = server.person(Some("a")).await;
                }
                person
                    .until(|person| person.text.text().matches('>').count() == words)
                    .await;
                over.store(true, Ordering::Relaxed);
                person.handle.leave(person.id).await;
            })
        });
        let people: Vec<_> = people.collect();
        while !over.load(Ordering::Relaxed) && people.iter().any(|person| !person.is_finished()) {
            self.evict().await;
            tokio::task::yield_now().await;
        }
        for person in people {
            person.await.expect("everybody sees all of it");
        }
    }
}

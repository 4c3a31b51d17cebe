//! The order, the sharing and the failing of commits.

use bytes::Bytes;

use super::super::contract::{append, create, events, loaded, memory, name, sqlite};
use super::super::testing::TestStore;
use super::super::{DataDirectory, SqliteStore};
use super::*;

fn held() -> (TestStore, Committer) {
    let store = TestStore::new(Arc::new(memory()));
    store.commit(&[vec![create("p")]]).unwrap();
    let committer = Committer::start(Arc::new(store.clone()));
    (store, committer)
}

fn full() -> StoreError {
    StoreError::Full {
        place: "the disk".into(),
    }
}

#[tokio::test]
async fn many_callers_share_few_syncs_and_keep_their_order() {
    let (store, committer) = held();
    store.hold();
    let first = committer.submit(vec![append("p", 1, "1")]);
    store.wait_until_held();
    // All these arrive during one commit.
    let mut later: Vec<_> = (2..=500)
        .map(|seq| committer.submit(vec![append("p", seq, &seq.to_string())]))
        .collect();
    store.release();
    // The order is that of the calls, however late and in whatever order they are polled.
    later.reverse();
    for durable in later {
        durable.await.unwrap();
    }
    first.await.unwrap();
    assert_eq!(store.commits(), 3, "the project, the first, all others");
    let expected: Vec<String> = (1..=500).map(|seq| seq.to_string()).collect();
    assert_eq!(loaded(&store, "p").0, expected);
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let (store, committer) = held();
    store.hold();
    let mut durable = Box::pin(committer.submit(vec![append("p", 1, "x")]));
    store.wait_until_held();
    assert!(futures_util::poll!(&mut durable).is_pending());
    store.release();
    durable.await.unwrap();
    assert_eq!(loaded(&store, "p").1, 2);
}

#[tokio::test]
async fn whoever_follows_is_woken_when_events_are_durable() {
    let (store, committer) = held();
    committer.commit(vec![create("q")]).await.unwrap();
    let news = |id: &str| committer.news().follow(&id.parse().unwrap());
    let (mut p, q) = (news("p"), news("q"));
    store.hold();
    let durable = committer.submit(vec![events("p", 1..=1, 9)]);
    store.wait_until_held();
    assert!(!p.has_changed().unwrap());
    store.release();
    let woken = tokio::time::timeout(std::time::Duration::from_secs(10), p.changed());
    woken.await.unwrap().unwrap();
    assert!(!q.has_changed().unwrap());
    durable.await.unwrap();
    // What is no event, and what failed, wakes nobody.
    committer.commit(vec![append("p", 1, "x")]).await.unwrap();
    store.fail_after(0, full());
    assert!(committer.commit(vec![events("p", 2..=2, 9)]).await.is_err());
    assert!(!p.has_changed().unwrap());
}

#[tokio::test]
async fn what_nobody_waits_for_is_written_all_the_same() {
    let (store, committer) = held();
    drop(committer.submit(vec![append("p", 1, "x")]));
    committer.commit(vec![append("p/d", 1, "y")]).await.unwrap();
    assert_eq!(loaded(&store, "p").1, 2);
}

#[tokio::test]
async fn commits_are_measured_and_failures_counted() {
    let store = TestStore::new(Arc::new(memory()));
    let metrics = Arc::<Metrics>::default();
    let committer = Committer::measured(Arc::new(store.clone()), Arc::clone(&metrics));
    committer.commit(vec![create("p")]).await.unwrap();
    store.fail_after(0, full());
    committer.commit(vec![create("q")]).await.unwrap_err();
    let text = metrics.text().unwrap();
    for line in [
        "uspark_commit_seconds_count 1\n",
        "uspark_commit_failures_total 1\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[tokio::test]
async fn a_refusal_concerns_its_own_group() {
    let (store, committer) = held();
    store.hold();
    let opening = committer.submit(vec![append("p/x", 1, "opening")]);
    store.wait_until_held();
    let good = committer.submit(vec![append("p/a", 1, "good")]);
    let stale = committer.submit(vec![append("p/b", 1, "undone"), append("p/a", 1, "stale")]);
    let after = committer.submit(vec![append("p/a", 2, "after")]);
    store.release();
    let refused = Refused::SequenceTaken {
        name: name("p/a"),
        seq: 1,
    };
    assert_eq!(
        (opening.await, good.await, stale.await, after.await),
        (Ok(()), Ok(()), Err(CommitError::Refused(refused)), Ok(()))
    );
    assert_eq!(loaded(&store, "p/b").1, 1);
    assert!(committer.is_healthy());
}

#[tokio::test]
async fn a_failed_commit_is_told_to_all_and_the_next_one_tries_again() {
    let (store, committer) = held();
    let broken = StoreError::Failed {
        place: "the disk".into(),
        detail: "gone".into(),
    };
    store.fail_after(0, broken.clone());
    store.hold();
    let one = committer.submit(vec![append("p", 1, "1")]);
    store.wait_until_held();
    let (two, three) = (
        committer.submit(vec![append("p", 2, "2")]),
        committer.submit(vec![create("q")]),
    );
    store.release();
    let failed = Err(CommitError::Failed(Arc::new(broken.clone())));
    assert_eq!(
        (one.await, two.await, three.await),
        (failed.clone(), failed.clone(), failed)
    );
    assert_eq!(committer.last_error().as_deref(), Some(&broken));
    assert!(committer.check().await.is_err());
    assert_eq!(loaded(&store, "p").1, 1);

    store.heal();
    // Nobody needs to write for it to be seen that the disk is well again.
    committer.check().await.unwrap();
    assert!(committer.is_healthy());
    committer.commit(vec![append("p", 1, "1")]).await.unwrap();
}

/// A group that does not fit is told so; those that were to share its transaction are written.
#[tokio::test]
async fn a_group_that_does_not_fit_fails_alone() {
    let (store, committer) = held();
    store.fail_when(|batch| {
        let bytes: usize = batch.iter().map(|group| cost(group)).sum();
        (bytes > 10_000).then(full)
    });
    store.hold();
    let opening = committer.submit(vec![append("p/x", 1, "opening")]);
    store.wait_until_held();
    let before = committer.submit(vec![append("p/a", 1, "small")]);
    let large = committer.submit(vec![append("p/b", 1, &"x".repeat(20_000))]);
    let after = committer.submit(vec![append("p/c", 1, "small")]);
    store.release();
    let failed = Err(CommitError::Failed(Arc::new(full())));
    assert_eq!(
        (opening.await, before.await, large.await, after.await),
        (Ok(()), Ok(()), failed, Ok(()))
    );
}

#[tokio::test]
async fn a_panic_in_the_store_does_not_end_the_thread() {
    let (store, committer) = held();
    store.fail_when(|_| panic!("on purpose"));
    let failed = committer.commit(vec![append("p", 1, "1")]).await;
    assert!(matches!(failed, Err(CommitError::Failed(_))), "{failed:?}");
    store.heal();
    committer.commit(vec![append("p", 1, "1")]).await.unwrap();
}

#[tokio::test]
async fn a_full_queue_refuses_submits_and_holds_commits_back() {
    let (store, committer) = held();
    store.hold();
    let opening = committer.submit(vec![append("p", 1, "opening")]);
    store.wait_until_held();
    // Larger than the whole queue, and yet it gets in.
    let huge = Bytes::from(vec![b'x'; (QUEUE_KIB + 1) << 10]);
    let huge = Write::Append {
        name: name("p"),
        seq: 2,
        update: huge,
        origin: None,
        at: 0,
    };
    let mut waiting = Box::pin(committer.commit(vec![huge]));
    assert!(futures_util::poll!(&mut waiting).is_pending());
    let refused = committer.submit(vec![append("p", 3, "no room")]).await;
    assert_eq!(refused, Err(CommitError::Overloaded));
    store.release();
    opening.await.unwrap();
    waiting.await.unwrap();
    committer
        .submit(vec![append("p", 3, "room again")])
        .await
        .unwrap();
    assert_eq!(store.load(&name("p")).unwrap().updates.len(), 3);
}

#[tokio::test]
async fn closing_writes_what_was_queued_and_lets_go_of_the_store() {
    let (temp, store) = sqlite();
    let committer = Committer::start(Arc::new(store));
    committer.commit(vec![create("p")]).await.unwrap();
    let queued: Vec<_> = (1..=200)
        .map(|seq| committer.submit(vec![append("p", seq, "x")]))
        .collect();
    committer.close().await;
    for durable in queued {
        durable.await.unwrap();
    }
    assert_eq!(
        committer.submit(vec![create("q")]).await,
        Err(CommitError::Closed)
    );
    assert_eq!(
        committer.commit(vec![create("q")]).await,
        Err(CommitError::Closed)
    );
    committer.close().await;
    // The directory's lock is free, though this handle still lives.
    let store = SqliteStore::open(&DataDirectory::open(temp.path()).unwrap()).unwrap();
    assert_eq!(loaded(&store, "p").1, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_on_many_threads_each_keep_their_order() {
    let (_temp, store) = sqlite();
    let store = Arc::new(store);
    let committer = Committer::start(store.clone());
    committer.commit(vec![create("p")]).await.unwrap();
    let tasks = (0..16).map(|task| {
        let committer = committer.clone();
        tokio::spawn(async move {
            let document = format!("p/{task}");
            let durable: Vec<_> = (1..=60)
                .map(|seq| committer.submit(vec![append(&document, seq, &seq.to_string())]))
                .collect();
            for durable in durable {
                durable.await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let expected: Vec<String> = (1..=60).map(|seq| seq.to_string()).collect();
    for task in 0..16 {
        assert_eq!(
            loaded(&*store, &format!("p/{task}")),
            (expected.clone(), 61)
        );
    }
}

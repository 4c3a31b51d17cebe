//! Minting, checking and revoking, also while others do the same.

use std::time::Duration;

use super::*;
use crate::store::testing::TestStore;
use crate::store::{MemoryStore, ProjectRecord};

fn project(id: &str) -> ProjectId {
    id.parse().unwrap()
}

fn new(scope: TokenScope, access: Access) -> NewToken {
    NewToken {
        scope,
        access,
        expires_at: Some(1000),
        name: Some("ci".into()),
    }
}

fn for_project() -> NewToken {
    new(TokenScope::Project(project("p")), Access::Write)
}

async fn tokens() -> (TestStore, Tokens) {
    let store = TestStore::new(Arc::new(MemoryStore::new("epoch")));
    let committer = Committer::start(Arc::new(store.clone()));
    for id in ["p", "q"] {
        let record = ProjectRecord {
            id: project(id),
            name: None,
            created_at: 0,
        };
        committer
            .commit(vec![Write::CreateProject(record)])
            .await
            .unwrap();
    }
    (store.clone(), Tokens::new(Arc::new(store), committer))
}

fn refused(result: Result<Grant, TokenError>) -> Refusal {
    match result.unwrap_err() {
        TokenError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_minted_token_grants_what_was_asked_until_its_time() {
    let (_, tokens) = tokens().await;
    let (record, token) = tokens.mint(for_project(), "server", 5).await.unwrap();
    let grant = tokens.verify(&token.reveal(), 999).await.unwrap();
    assert_eq!(grant.token_id, record.id);
    assert_eq!(grant.allows(&project("p"), Access::Write), Ok(()));
    assert_eq!(
        grant.allows(&project("q"), Access::Read),
        Err(Refusal::OtherProject)
    );
    assert_eq!(grant.expires_at, Some(1000));
    // Also from the cache.
    assert_eq!(
        refused(tokens.verify(&token.reveal(), 1000).await),
        Refusal::Expired
    );
    assert_eq!(
        tokens.list(Some(&project("p"))).await.unwrap(),
        std::slice::from_ref(&record)
    );
    assert_eq!(tokens.list(Some(&project("q"))).await.unwrap(), []);
    assert_eq!(tokens.get(&record.id).await.unwrap(), Some(record));
}

#[tokio::test]
async fn unknown_tokens_and_wrong_secrets_are_the_same() {
    let (_, tokens) = tokens().await;
    let (_, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    let (right, stranger) = (token.reveal(), Token::random().reveal());
    let wrong = format!("{}{}", &right[..18], &stranger[18..]);
    let zeros = format!("uspk_{}_{}", "A".repeat(12), "A".repeat(43));
    for cached in [false, true] {
        for bad in [&wrong, &stranger, &zeros, "", "uspk_", "Bearer x"] {
            let refusal = refused(tokens.verify(bad, 0).await);
            assert_eq!(refusal, Refusal::Unknown, "{bad}, cached: {cached}");
        }
        tokens.verify(&right, 0).await.unwrap();
    }
}

#[tokio::test]
async fn a_live_token_is_read_from_the_store_once() {
    let (store, tokens) = tokens().await;
    let (_, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    tokens.verify(&token.reveal(), 0).await.unwrap();
    let broken = StoreError::Failed {
        place: "the disk".into(),
        detail: "gone".into(),
    };
    store.fail_reads(broken.clone());
    tokens.verify(&token.reveal(), 0).await.unwrap();
    // A store in trouble is not a wrong token.
    let other = tokens.verify(&Token::random().reveal(), 0).await;
    assert_eq!(other, Err(TokenError::Store(broken)));
}

#[tokio::test]
async fn a_revoked_token_is_refused_and_its_holders_are_told() {
    let (store, tokens) = tokens().await;
    let (record, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    let (_, other) = tokens.mint(for_project(), "server", 0).await.unwrap();
    let mut revoked = tokens.revoked();
    tokens.verify(&token.reveal(), 0).await.unwrap();
    tokens.revoke(&record.id, "admin", 7).await.unwrap();
    assert_eq!(revoked.try_recv().unwrap(), record.id);
    assert_eq!(
        refused(tokens.verify(&token.reveal(), 8).await),
        Refusal::Revoked
    );
    assert_eq!(
        tokens.get(&record.id).await.unwrap().unwrap().revoked_at,
        Some(7)
    );
    tokens.verify(&other.reveal(), 8).await.unwrap();

    let unknown = tokens.revoke(Token::random().id(), "admin", 8).await;
    assert_eq!(unknown, Err(TokenError::Refused(Refusal::Unknown)));
    let actions = store.audit(0, 9).unwrap();
    let actions: Vec<_> = actions
        .iter()
        .map(|(_, r)| (&*r.actor, &*r.action))
        .collect();
    let expected = [
        ("server", "token.mint"),
        ("server", "token.mint"),
        ("admin", "token.revoke"),
    ];
    assert_eq!(actions, expected);
}

#[tokio::test]
async fn a_revocation_that_is_not_durable_is_not_told() {
    let (store, tokens) = tokens().await;
    let (record, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    let mut revoked = tokens.revoked();
    store.fail_after(
        0,
        StoreError::Full {
            place: "the disk".into(),
        },
    );
    let failed = tokens.revoke(&record.id, "admin", 7).await;
    assert!(
        matches!(failed, Err(TokenError::Commit(CommitError::Failed(_)))),
        "{failed:?}"
    );
    assert!(revoked.try_recv().is_err());
    tokens.verify(&token.reveal(), 8).await.unwrap();
}

/// The caller goes away while the revocation waits for the disk: it takes place all the same.
#[tokio::test]
async fn a_revocation_outlives_its_caller() {
    let (store, tokens) = tokens().await;
    let (record, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    tokens.verify(&token.reveal(), 0).await.unwrap();
    let mut revoked = tokens.revoked();
    store.hold();
    {
        let mut caller = Box::pin(tokens.revoke(&record.id, "admin", 7));
        let held = store.clone();
        let held = tokio::task::spawn_blocking(move || held.wait_until_held());
        tokio::select! {
            _ = &mut caller => panic!("answered before the disk"),
            held = held => held.unwrap(),
        }
    }
    store.release();
    let told = tokio::time::timeout(Duration::from_secs(10), revoked.recv()).await;
    assert_eq!(told.unwrap().unwrap(), record.id);
    assert_eq!(
        refused(tokens.verify(&token.reveal(), 8).await),
        Refusal::Revoked
    );
}

/// Verifications run beside the revocation; whatever they read, none stays valid after it.
#[tokio::test(flavor = "multi_thread")]
async fn no_verification_brings_a_revoked_token_back() {
    let (_, tokens) = tokens().await;
    for _ in 0..200 {
        let (record, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let (tokens, token) = (tokens.clone(), token.reveal());
                tokio::spawn(async move { tokens.verify(&token, 0).await.is_ok() })
            })
            .collect();
        tokens.revoke(&record.id, "admin", 1).await.unwrap();
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(
            refused(tokens.verify(&token.reveal(), 1).await),
            Refusal::Revoked
        );
    }
}

#[tokio::test]
async fn a_deleted_project_takes_its_tokens_with_it() {
    let (store, tokens) = tokens().await;
    let (record, token) = tokens.mint(for_project(), "server", 0).await.unwrap();
    let all = new(TokenScope::Server, Access::Admin);
    let (_, server) = tokens.mint(all, "server", 0).await.unwrap();
    tokens.verify(&token.reveal(), 0).await.unwrap();
    let mut revoked = tokens.revoked();
    tokens
        .delete_project(&project("p"), "admin", 1)
        .await
        .unwrap();
    assert_eq!(revoked.try_recv().unwrap(), record.id);
    assert!(revoked.try_recv().is_err());

    let again = ProjectRecord {
        id: project("p"),
        name: None,
        created_at: 0,
    };
    store.commit(&[vec![Write::CreateProject(again)]]).unwrap();
    assert_eq!(
        refused(tokens.verify(&token.reveal(), 1).await),
        Refusal::Unknown
    );
    let server = tokens.verify(&server.reveal(), 1).await.unwrap();
    assert_eq!(server.allows(&project("p"), Access::Admin), Ok(()));

    let absent = tokens
        .delete_project(&project("gone"), "admin", 1)
        .await
        .unwrap_err();
    let expected = CommitError::Refused(Refused::NoSuchProject(project("gone")));
    assert_eq!(absent, TokenError::Commit(expected));
}

#[tokio::test]
async fn an_operators_token_is_adopted_at_every_start() {
    let (_, tokens) = tokens().await;
    let token = Token::random();
    let new = || NewToken {
        expires_at: None,
        ..new(TokenScope::Server, Access::Admin)
    };
    for _ in 0..2 {
        let grant = tokens.adopt(&token, new(), "server", 1).await.unwrap();
        assert_eq!(grant.allows_server(Access::Admin), Ok(()));
    }
    assert_eq!(tokens.list(None).await.unwrap().len(), 1);
    // The same id under another secret is not the same token.
    let other = Token::random().reveal();
    let other = format!("{}{}", &token.reveal()[..18], &other[18..])
        .parse()
        .unwrap();
    assert_eq!(
        refused(tokens.adopt(&other, new(), "server", 1).await),
        Refusal::Unknown
    );
    tokens.revoke(token.id(), "admin", 2).await.unwrap();
    assert_eq!(
        refused(tokens.adopt(&token, new(), "server", 3).await),
        Refusal::Revoked
    );
}

#[tokio::test]
async fn a_token_needs_its_project() {
    let (_, tokens) = tokens().await;
    let nowhere = new(TokenScope::Project(project("gone")), Access::Read);
    let error = tokens.mint(nowhere, "server", 0).await.unwrap_err();
    let expected = CommitError::Refused(Refused::NoSuchProject(project("gone")));
    assert_eq!(error, TokenError::Commit(expected));
}

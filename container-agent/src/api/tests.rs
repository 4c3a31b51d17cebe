use std::sync::Arc;

use axum::Router;
use axum::body::Bytes as BodyBytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap as Headers, StatusCode as Status};
use axum::response::{IntoResponse, Redirect, Response as Answer};
use axum::routing::{get, post};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use tokio::net::TcpListener;

use super::*;

/// Serves `router` on loopback and makes a client of it.
async fn serve(router: Router) -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    client(&server)
}

fn client(server: &str) -> Api {
    let token = "uspk_a_b".parse().unwrap();
    Api::new(server.parse().unwrap(), token, &Authorities::default()).unwrap()
}

fn project() -> ProjectId {
    "p".parse().unwrap()
}

fn problem(status: u16, body: Value) -> Answer {
    let status = Status::from_u16(status).unwrap();
    (
        status,
        [("content-type", "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

#[tokio::test]
async fn the_token_is_sent_and_what_it_is_comes_back() {
    let router = Router::new().route(
        "/api/tokens/self",
        get(|headers: Headers| async move {
            assert_eq!(headers["authorization"], "Bearer uspk_a_b");
            json!({"id": "a", "project": "p", "access": "write", "expiresAt": 17, "new": 1})
                .to_string()
        }),
    );
    let info = serve(router).await.token_info().await.unwrap();
    assert_eq!(
        info,
        TokenInfo {
            id: "a".into(),
            project: Some(project()),
            access: Access::Write,
            expires_at: Some(17),
        }
    );
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_from_one_that_is_not_trusted() {
    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", plain.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(plain, Router::new()).await });
    let error = client(&server).token_info().await.unwrap_err();
    assert!(error.is_plain() && !error.is_untrusted(), "{error:?}");
    let nobody = client("https://127.0.0.1:1")
        .token_info()
        .await
        .unwrap_err();
    assert!(!nobody.is_plain() && !nobody.is_untrusted(), "{nobody:?}");
}

#[tokio::test]
async fn a_refusal_carries_what_the_server_says() {
    let answers = |status, body: Value| {
        get(move || {
            let body = body.clone();
            async move { problem(status, body) }
        })
    };
    let said = json!({"title": "t", "detail": "expired yesterday", "hint": "log in"});
    for (status, refusal, transient) in [
        (401, Refusal::Unauthorised, false),
        (403, Refusal::Forbidden, false),
        (413, Refusal::TooLarge, false),
        (429, Refusal::Later, true),
        (503, Refusal::Later, true),
        (418, Refusal::Other(418), false),
    ] {
        let api =
            serve(Router::new().route("/api/tokens/self", answers(status, said.clone()))).await;
        let error = api.token_info().await.unwrap_err();
        assert_eq!(error.refusal(), Some(refusal));
        assert_eq!(error.is_transient(), transient, "{status}");
        assert!(error.to_string().ends_with("expired yesterday"), "{error}");
        assert!(matches!(error, ApiError::Refused { hint: Some(hint), .. } if hint == "log in"));
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let router = Router::new().route(
        "/api/tokens/self",
        get(|| async { Redirect::permanent("https://elsewhere/") }),
    );
    let error = serve(router).await.token_info().await.unwrap_err();
    let ApiError::Refused {
        hint: Some(hint), ..
    } = error
    else {
        panic!("{error:?}")
    };
    assert!(hint.contains("https://elsewhere/"), "{hint}");
}

#[tokio::test]
async fn another_programs_answer_is_no_token() {
    let router = Router::new().fallback(|| async { "<html>hello</html>" });
    let error = serve(router).await.token_info().await.unwrap_err();
    assert!(matches!(error, ApiError::Malformed { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_listening_is_transient_and_says_why() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = client(&server).token_info().await.unwrap_err();
    assert!(error.is_transient());
    assert!(
        error.cause().unwrap().contains("refused"),
        "{:?}",
        error.cause()
    );
}

/// Blobs as a server keeps them, for the calls below.
type Blobs = Arc<Mutex<HashMap<String, Vec<u8>>>>;

fn blob_server(blobs: Blobs) -> Router {
    async fn put(
        State(blobs): State<Blobs>,
        Query(query): Query<HashMap<String, String>>,
        body: BodyBytes,
    ) -> Answer {
        assert_eq!(query["project"], "p");
        let hash = BlobHash::of(&body).to_string();
        blobs.lock().unwrap().insert(hash.clone(), body.to_vec());
        let stored = json!({"hash": hash, "size": body.len()});
        (Status::CREATED, stored.to_string()).into_response()
    }
    async fn fetch(
        State(blobs): State<Blobs>,
        Path(hash): Path<String>,
        request: Request,
    ) -> Answer {
        let Some(bytes) = blobs.lock().unwrap().get(&hash).cloned() else {
            return problem(404, json!({}));
        };
        let range = request
            .headers()
            .get("range")
            .map(|r| r.to_str().unwrap().to_owned());
        match range {
            None => bytes.into_response(),
            Some(range) => {
                let from = range
                    .strip_prefix("bytes=")
                    .unwrap()
                    .strip_suffix('-')
                    .unwrap();
                let rest = bytes[from.parse().unwrap()..].to_vec();
                (Status::PARTIAL_CONTENT, rest).into_response()
            }
        }
    }
    Router::new()
        .route("/api/blobs", post(put))
        .route("/api/blobs/{hash}", get(fetch))
        .with_state(blobs)
}

#[tokio::test]
async fn blobs_go_up_and_come_down_whole_or_from_a_point() {
    let api = serve(blob_server(Blobs::default())).await;
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    let hash = BlobHash::of(&bytes);
    assert_eq!(api.blob_size(&project(), &hash).await.unwrap(), None);

    let stored = api
        .put_blob(&project(), bytes.clone(), 200_000)
        .await
        .unwrap();
    assert_eq!(
        stored,
        StoredBlob {
            hash,
            size: 200_000
        }
    );
    assert_eq!(
        api.blob_size(&project(), &hash).await.unwrap(),
        Some(200_000)
    );

    for from in [0, 1, 199_999] {
        let mut chunks = api.get_blob(&project(), &hash, from).await.unwrap();
        let mut got = Vec::new();
        while let Some(chunk) = chunks.next().await {
            got.extend_from_slice(&chunk.unwrap());
        }
        assert!(got == bytes[from as usize..], "from {from}");
    }
    let error = api
        .get_blob(&project(), &BlobHash::of(b"x"), 0)
        .await
        .err()
        .unwrap();
    assert_eq!(error.refusal(), Some(Refusal::NotFound));
}

#[tokio::test]
async fn a_body_shorter_than_it_said_is_an_error() {
    let api = serve(blob_server(Blobs::default())).await;
    let short = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"abc"))]);
    let body = Body::wrap_stream(short);
    assert!(api.put_blob(&project(), body, 10).await.is_err());
}

#[tokio::test]
async fn the_project_comes_with_its_version_and_takes_a_state_vector() {
    let router = Router::new().route(
        "/api/projects/p",
        get(|Query(query): Query<HashMap<String, String>>| async move {
            (
                [("x-version", "v1")],
                query.get("sv").cloned().unwrap_or_default(),
            )
        }),
    );
    let api = serve(router).await;
    api.check_project(&project()).await.unwrap();
    let whole = api.project(&project(), None).await.unwrap();
    assert_eq!(
        (whole.update.as_ref(), whole.version.as_deref()),
        (&b""[..], Some("v1"))
    );
    let part = api.project(&project(), Some(&[0xff, 0xfe])).await.unwrap();
    assert_eq!(part.update.as_ref(), b"__4");
    let other = api.check_project(&"q".parse().unwrap()).await.unwrap_err();
    assert_eq!(other.refusal(), Some(Refusal::NotFound));
}

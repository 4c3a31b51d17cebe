//! The page, as a browser gets it; and what is said where the server was built without it.

use std::path::Path;

use crate::client::{Answer, TestServer};

/// Whether there was a page when this was built.
fn is_built() -> bool {
    let page = "../web/viewer/dist/index.html";
    Path::new(env!("CARGO_MANIFEST_DIR")).join(page).is_file()
}

fn text(answer: &Answer) -> &str {
    str::from_utf8(&answer.body).unwrap()
}

/// What stands between the first `before` and the next double quote.
fn behind<'a>(text: &'a str, before: &str) -> &'a str {
    let rest = text.split_once(before).unwrap().1;
    rest.split_once('"').unwrap().0
}

#[tokio::test]
async fn the_page_may_run_its_own_script_and_nothing_else() {
    let server = TestServer::start().await;
    let browser = server.without_token();
    if !is_built() {
        let answer = browser.get("/p/demo").send().await;
        answer.problem(404);
        assert!(text(&answer).contains("built without the page"));
        return;
    }
    let mut nonces = Vec::new();
    for path in ["/", "/p/demo", "/p/demo?x=1"] {
        let page = browser.get(path).send().await;
        assert_eq!(page.status, 200);
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
        let nonce = behind(text(&page), "nonce=\"").to_owned();
        assert_eq!(nonce.len(), 22);
        assert!(!text(&page).contains("{{"));
        let policy = page.header("content-security-policy").unwrap();
        let styles = format!("style-src 'self' 'nonce-{nonce}';");
        for part in [
            "default-src 'none';",
            "script-src 'self';",
            &styles,
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        nonces.push(nonce);
    }
    nonces.sort();
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
}

#[tokio::test]
async fn its_files_are_kept_for_good_and_compressed_for_those_who_take_it() {
    let server = TestServer::start().await;
    let browser = server.without_token();
    for path in [
        "/assets/none.js",
        "/assets/../index.html",
        "/assets/%2e%2e/index.html",
        "/index.html",
    ] {
        browser.get(path).send().await.problem(404);
    }
    if !is_built() {
        return;
    }
    let licenses = browser.get("/licenses.md").send().await;
    assert_eq!(
        licenses.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert!(text(&licenses).contains("preact"));
    let page = browser.get("/").send().await;
    let script = behind(text(&page), " src=\"");
    assert!(script.starts_with("/assets/"), "{script}");
    let plain = browser.get(script).send().await;
    let packed = browser.get(script).header("accept-encoding", "gzip, br");
    let packed = packed.send().await;
    for answer in [&plain, &packed] {
        assert_eq!(answer.status, 200);
        let kind = "text/javascript; charset=utf-8";
        assert_eq!(answer.header("content-type"), Some(kind));
        let lasting = "public, max-age=31536000, immutable";
        assert_eq!(answer.header("cache-control"), Some(lasting));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(text(&plain).contains("import"));
    assert_eq!(packed.body[..2], [0x1f, 0x8b]);
    assert!(packed.body.len() * 2 < plain.body.len());
}

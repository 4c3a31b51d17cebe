//! The page where people watch a project and join in: files that were built into the binary.
//!
//! Owns: what the browser may do with them. Must not do: know anything of a project. The page asks
//! for all of it itself, with a token that the server is never shown in an address: a browser keeps
//! what stands behind `#` to itself.
//!
//! Invariant: no answer allows script or style but its own. CodeMirror makes one style element, and
//! carries a number into it that is in this one answer.

use axum::Router;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::refusal::Refusal;
use crate::server::AppState;

/// A file of the page.
struct File {
    name: &'static str,
    bytes: &'static [u8],
    /// Compressed with gzip.
    packed: Option<&'static [u8]>,
}

/// Empty where the server was built without the page.
const FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/page.rs"));

/// What stands in the page for a number that is used once.
const NONCE: &str = "{{nonce}}";
/// Bytes of that number.
const NONCE_BYTES: usize = 16;

/// The page, and the files it consists of.
pub(crate) fn routes() -> Router<AppState> {
    if FILES.is_empty() {
        tracing::info!("this server was built without the page");
    }
    Router::new()
        .route("/", get(page))
        .route("/p/{project}", get(page))
        .route("/icon.svg", get(|headers| file("icon.svg".into(), headers)))
        .route(
            "/licenses.md",
            get(|headers| file("licenses.md".into(), headers)),
        )
        .route("/assets/{*name}", get(asset))
}

/// The same for each address: the page looks where it is by itself.
async fn page() -> Result<Response, Refusal> {
    let html = find("index.html").and_then(|file| str::from_utf8(file.bytes).ok());
    let html = html.ok_or(Refusal::NotFound("page"))?;
    let nonce = nonce()?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy(&nonce)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin".to_owned(),
        ),
    ];
    Ok((headers, html.replace(NONCE, &nonce)).into_response())
}

async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Result<Response, Refusal> {
    file(format!("assets/{name}"), headers).await
}

/// A file. The name of an asset says what is in it, so whoever has one need not ask again.
async fn file(name: String, headers: HeaderMap) -> Result<Response, Refusal> {
    let file = find(&name).ok_or(Refusal::NotFound("such address"))?;
    let packed = file.packed.filter(|_| takes_gzip(&headers));
    let mut response = packed.unwrap_or(file.bytes).into_response();
    let headers = response.headers_mut();
    let lasting = if name.starts_with("assets/") {
        "public, max-age=31536000, immutable"
    } else {
        "public, max-age=86400"
    };
    for (header, value) in [
        (header::CONTENT_TYPE, content_type(&name)),
        (header::CACHE_CONTROL, lasting),
        (header::VARY, "accept-encoding"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
    ] {
        headers.insert(header, HeaderValue::from_static(value));
    }
    if packed.is_some() {
        let gzip = HeaderValue::from_static("gzip");
        headers.insert(header::CONTENT_ENCODING, gzip);
    }
    Ok(response)
}

fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

/// What the page may do: run its own script, talk to this server, show pictures it has fetched. It
/// makes no markup of text.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; \
         img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
}

fn nonce() -> Result<String, Refusal> {
    let mut bytes = [0; NONCE_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::error!(%error, "the system gives no random numbers");
        Refusal::Internal
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("md") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// Whether a client says that it takes gzip; `gzip;q=0` says that it does not.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let listed = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let mut codings = listed
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','));
    codings.any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = matches!(weight.trim().trim_end_matches('0'), "q=" | "q=0.");
        name.trim().eq_ignore_ascii_case("gzip") && !is_refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_for_those_who_take_it() {
        let takes = |value: &'static str| {
            let value = HeaderValue::from_static(value);
            takes_gzip(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]))
        };
        assert!(takes("gzip") && takes("br, GZIP;q=0.5") && takes("deflate,gzip;q=1.0"));
        assert!(!takes("br") && !takes("gzip;q=0") && !takes("gzip; q=0.00") && !takes(""));
        assert!(!takes_gzip(&HeaderMap::new()));
    }
}

//! Failures as `application/problem+json` (RFC 9457).

use axum::Json;
use axum::body::to_bytes;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::refusal::Refusal;

const KIND: HeaderValue = HeaderValue::from_static("application/problem+json");
/// Bytes of a foreign explanation that are passed on.
const DETAIL: usize = 1024;

#[derive(Serialize)]
struct Problem {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = problem(self.status(), self.to_string(), self.hint());
        let retry_after = self.retry_after();
        let headers = response.headers_mut();
        match self {
            Self::Unauthorised => {
                let bearer = HeaderValue::from_static("Bearer");
                headers.insert(header::WWW_AUTHENTICATE, bearer);
            }
            Self::Range(size) => {
                let range = HeaderValue::from_str(&format!("bytes */{size}"));
                headers.extend(range.map(|range| (header::CONTENT_RANGE, range)));
            }
            _ => {}
        }
        let retry_after = retry_after.map(|seconds| (header::RETRY_AFTER, seconds.into()));
        headers.extend(retry_after);
        response
    }
}

/// Puts what a library refused (a socket's address without an upgrade, say) into our form.
pub(super) async fn in_our_form(response: Response) -> Response {
    let status = response.status();
    let is_failure = status.is_client_error() || status.is_server_error();
    if !is_failure || response.headers().get(header::CONTENT_TYPE) == Some(&KIND) {
        return response;
    }
    let (parts, body) = response.into_parts();
    let detail = to_bytes(body, DETAIL).await.unwrap_or_default();
    let mut answer = problem(status, String::from_utf8_lossy(&detail).into_owned(), None);
    for (name, value) in &parts.headers {
        if name != header::CONTENT_TYPE && name != header::CONTENT_LENGTH {
            answer.headers_mut().append(name, value.clone());
        }
    }
    answer
}

fn problem(status: StatusCode, detail: String, hint: Option<&'static str>) -> Response {
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail,
        hint,
    };
    let mut response = (status, Json(problem)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, KIND);
    response
}

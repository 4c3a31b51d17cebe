//! Reading conditions, ranges and versions. Pure: text in, decision out.

use std::ops::Range;

use axum::http::header::{ACCEPT, IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use uspark_shared::id::BlobHash;

use super::X_VERSION;
use crate::project::PutBase;
use crate::refusal::Refusal;

/// The name of a content as a strong validator.
pub(super) fn etag(hash: &BlobHash) -> HeaderValue {
    let quoted = format!("\"{hash}\"");
    HeaderValue::from_str(&quoted).expect("a hash is hexadecimal digits")
}

/// What a PUT is merged against.
pub(super) fn put_base(headers: &HeaderMap) -> Result<PutBase, Refusal> {
    match (if_match(headers)?, text(headers, IF_NONE_MATCH)?) {
        (None, None) => Ok(PutBase::Current),
        (Some(hash), None) => Ok(PutBase::Hash(hash)),
        (None, Some("*")) => Ok(PutBase::Nothing),
        (None, Some(_)) => Err(malformed("If-None-Match of a PUT takes `*` only")),
        (Some(_), Some(_)) => Err(malformed("If-Match and If-None-Match exclude each other")),
    }
}

/// The one content that the request is about.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<BlobHash>, Refusal> {
    let Some(value) = text(headers, IF_MATCH)? else {
        return Ok(None);
    };
    let quoted = value
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let hash = quoted.and_then(|hash| hash.parse().ok());
    hash.map(Some)
        .ok_or_else(|| malformed("If-Match takes one hash in double quotes"))
}

/// Whether a reader has this content already.
pub(super) fn has_already(headers: &HeaderMap, hash: &BlobHash) -> bool {
    let own = format!("\"{hash}\"");
    let listed = headers
        .get_all(IF_NONE_MATCH)
        .into_iter()
        .filter_map(|v| v.to_str().ok());
    let mut tags = listed.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == own)
}

/// The part of `size` bytes that is wanted; `None` is all of them.
///
/// What is no range, and more than one, is answered with all, as RFC 9110 §14.2 has it.
pub(super) fn range(
    headers: &HeaderMap,
    hash: &BlobHash,
    size: u64,
) -> Result<Option<Range<u64>>, Refusal> {
    let is_about_this = |condition: &HeaderValue| *condition == etag(hash);
    if !headers.get(IF_RANGE).is_none_or(is_about_this) {
        return Ok(None);
    }
    let value = headers.get(RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = value.and_then(one_range) else {
        return Ok(None);
    };
    let range = match (first, last) {
        (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1)).min(size),
        (None, Some(length)) => size.saturating_sub(length)..size,
        (None, None) => return Ok(None),
    };
    if range.is_empty() {
        Err(Refusal::Range(size))
    } else {
        Ok(Some(range))
    }
}

/// `bytes=first-last`, `bytes=first-` or `bytes=-length`; both ends are bytes that are wanted.
fn one_range(value: &str) -> Option<(Option<u64>, Option<u64>)> {
    let (first, last) = value.strip_prefix("bytes=")?.trim().split_once('-')?;
    let number = |text: &str| match text {
        "" => Some(None),
        text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().map(Some),
        _ => None,
    };
    let (first, last) = (number(first)?, number(last)?);
    let in_order = first.zip(last).is_none_or(|(first, last)| first <= last);
    in_order.then_some((first, last))
}

/// The version that a change is based on, as its author says.
pub(super) fn version(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let value = text(headers, X_VERSION)?;
    let number = |value: &str| {
        value
            .parse()
            .map_err(|_| malformed("X-Version takes the number that a GET answered"))
    };
    value.map(number).transpose()
}

/// Whether JSON is preferred to what is sent otherwise: it is named, and bytes are not before it.
pub(super) fn wants_json(headers: &HeaderMap) -> bool {
    let listed = headers
        .get_all(ACCEPT)
        .into_iter()
        .filter_map(|v| v.to_str().ok());
    let mut kinds = listed
        .flat_map(|list| list.split(','))
        .map(|kind| kind.split(';').next().unwrap_or(kind).trim());
    let first = kinds.find(|kind| matches!(*kind, "application/json" | "application/octet-stream"));
    first == Some("application/json")
}

fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, Refusal> {
    let Some(value) = headers.get(&name) else {
        return Ok(None);
    };
    let text = value
        .to_str()
        .map_err(|_| malformed(&format!("`{name}` is no text")))?;
    Ok(Some(text.trim()))
}

fn malformed(why: &str) -> Refusal {
    Refusal::Malformed(why.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let value = |value: &str| HeaderValue::from_str(value).unwrap();
        pairs
            .iter()
            .map(|(name, text)| (name.clone(), value(text)))
            .collect()
    }

    #[test]
    fn ranges_lie_in_the_content() {
        let hash = BlobHash::of(b"x");
        let range_of = |value: &str, size| range(&headers(&[(RANGE, value)]), &hash, size);
        for (value, expected) in [
            ("bytes=0-0", Some(0..1)),
            ("bytes=2-4", Some(2..5)),
            ("bytes=7-", Some(7..10)),
            ("bytes=7-99", Some(7..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-99", Some(0..10)),
            ("bytes=0-18446744073709551615", Some(0..10)),
            // Not understood, so not there.
            ("bytes=4-2", None),
            ("bytes=-", None),
            ("bytes=+1-2", None),
            ("bytes=0-1,3-4", None),
            ("lines=0-1", None),
            ("bytes=0-99999999999999999999", None),
        ] {
            assert_eq!(range_of(value, 10), Ok(expected), "{value}");
        }
        for (value, size) in [
            ("bytes=10-", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
        ] {
            assert_eq!(range_of(value, size), Err(Refusal::Range(size)), "{value}");
        }
    }

    #[test]
    fn a_range_of_another_content_is_all_of_this_one() {
        let (this, other) = (BlobHash::of(b"x"), BlobHash::of(b"y"));
        let ask = |about: &BlobHash| {
            let about = format!("\"{about}\"");
            range(
                &headers(&[(RANGE, "bytes=0-1"), (IF_RANGE, &about)]),
                &this,
                10,
            )
        };
        assert_eq!(ask(&this), Ok(Some(0..2)));
        assert_eq!(ask(&other), Ok(None));
    }

    #[test]
    fn a_reader_may_have_it_already() {
        let hash = BlobHash::of(b"x");
        let has = |value: String| has_already(&headers(&[(IF_NONE_MATCH, &value)]), &hash);
        assert!(
            has("*".into()) && has(format!("\"{hash}\"")) && has(format!("\"a\", W/\"{hash}\""))
        );
        assert!(!has(hash.to_string()) && !has("\"a\"".into()));
        assert!(!has_already(&HeaderMap::new(), &hash));
    }

    #[test]
    fn a_put_says_what_it_is_based_on() {
        let hash = BlobHash::of(b"x");
        let quoted = format!("\"{hash}\"");
        let base = |pairs: &[(HeaderName, &str)]| put_base(&headers(pairs));
        assert_eq!(base(&[]), Ok(PutBase::Current));
        assert_eq!(base(&[(IF_MATCH, &quoted)]), Ok(PutBase::Hash(hash)));
        assert_eq!(base(&[(IF_NONE_MATCH, "*")]), Ok(PutBase::Nothing));
        assert!(base(&[(IF_MATCH, "*")]).is_err());
        assert!(base(&[(IF_MATCH, &hash.to_string())]).is_err());
        assert!(base(&[(IF_NONE_MATCH, &quoted)]).is_err());
        assert!(base(&[(IF_MATCH, &quoted), (IF_NONE_MATCH, "*")]).is_err());
    }

    #[test]
    fn json_is_sent_to_those_who_name_it() {
        let wants = |accept: &str| wants_json(&headers(&[(ACCEPT, accept)]));
        assert!(wants("application/json") && wants("text/html, application/json;q=0.9, */*"));
        assert!(!wants("*/*") && !wants("application/octet-stream, application/json"));
    }
}

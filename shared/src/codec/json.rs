//! JSON text from peers: that it parses, and that it is not nested too deep to be passed on.

use serde::de::IgnoredAny;

use super::{DecodeError, MAX_DEPTH};

/// Checks that `text` is one JSON value at most [`MAX_DEPTH`] deep, without building it.
///
/// A text that some client's `JSON.parse` throws at must not reach it: it would lose the whole
/// message, and with it what other clients said.
pub(crate) fn check_json(text: &str) -> Result<(), DecodeError> {
    if depth(text) > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(IgnoredAny) => Ok(()),
        Err(error) => Err(DecodeError::Json(error.to_string())),
    }
}

/// Counts the deepest nesting of brackets outside strings. Exact when the text is JSON.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_a_browser_parses() {
        for text in [
            "null",
            "1e400",
            r#""\ud83d""#,
            r#"{"a":[1,{"b":"]}[{"}]}"#,
            &format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)),
        ] {
            assert_eq!(check_json(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_a_browser_throws_at() {
        for text in ["", "undefined", "{a:1}", "[1,]", "\"\u{1}\"", "1 2", "NaN"] {
            assert!(
                matches!(check_json(text), Err(DecodeError::Json(_))),
                "{text}"
            );
        }
        let deep = "[".repeat(MAX_DEPTH + 1) + &"]".repeat(MAX_DEPTH + 1);
        assert_eq!(check_json(&deep), Err(DecodeError::TooDeep));
        assert_eq!(
            check_json(&"[".repeat(1_000_000)),
            Err(DecodeError::TooDeep)
        );
    }
}

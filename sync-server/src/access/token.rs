//! What a token looks like: `uspk_<id>_<secret>`.
//!
//! The id names it in lists and logs; the secret never leaves the process that minted it but in
//! the one answer, and is kept as its BLAKE3 digest. 256 random bits need no slow hash.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use super::{Access, Grant, Refusal, TokenScope};

const PREFIX: &str = "uspk_";
/// Characters of an id: 72 random bits.
const ID_CHARS: usize = 12;
/// Characters of a secret: 256 random bits.
const SECRET_CHARS: usize = 43;

/// A string that has not the form of a token, or of a token's id. It is not repeated: it may hold
/// most of a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a token: a token is `uspk_`, 12 characters, `_` and 43 characters")]
pub struct TokenFormatError;

/// The public name of a token.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(Box<str>);

/// A whole token, secret included. Shown by [`Token::reveal`], and by nothing else.
#[derive(Clone)]
pub struct Token {
    id: TokenId,
    secret: Box<str>,
}

/// A token as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Its public name.
    pub id: TokenId,
    /// Where it is valid.
    pub scope: TokenScope,
    /// What it allows there.
    pub access: Access,
    /// The BLAKE3 digest of its secret.
    pub digest: [u8; 32],
    /// When it was minted, in ms since 1970.
    pub created_at: u64,
    /// From when on it is no longer valid.
    pub expires_at: Option<u64>,
    /// When it was revoked.
    pub revoked_at: Option<u64>,
    /// What it is for, in people's words.
    pub name: Option<String>,
}

impl Token {
    /// Draws a new token.
    pub(super) fn random() -> Self {
        let mut bytes = [0; 9 + 32];
        getrandom::fill(&mut bytes).expect("the system gives random bytes once it has booted");
        let (id, secret) = bytes.split_at(9);
        Self {
            id: TokenId(URL_SAFE_NO_PAD.encode(id).into()),
            secret: URL_SAFE_NO_PAD.encode(secret).into(),
        }
    }

    /// Its public name.
    pub fn id(&self) -> &TokenId {
        &self.id
    }

    /// The token in full, for the one who asked for it.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}_{}", self.id, self.secret)
    }

    pub(super) fn digest(&self) -> [u8; 32] {
        *blake3::hash(self.secret.as_bytes()).as_bytes()
    }
}

impl TokenRecord {
    /// Takes `found` if `digest` is its secret's. Whether there is none or the secret is wrong,
    /// the same comparison takes the same time.
    pub(super) fn with_secret<'a>(found: Option<&'a Self>, digest: &[u8; 32]) -> Option<&'a Self> {
        let stored = found.map_or(&[0; 32], |record| &record.digest);
        let equal = bool::from(stored.ct_eq(digest));
        found.filter(|_| equal)
    }

    /// What the token allows at `now`.
    pub(super) fn grant(&self, now: u64) -> Result<Grant, Refusal> {
        if self.revoked_at.is_some() {
            return Err(Refusal::Revoked);
        }
        let grant = Grant {
            token_id: self.id.clone(),
            name: self.name.clone(),
            scope: self.scope.clone(),
            access: self.access,
            expires_at: self.expires_at,
        };
        grant.check_time(now)?;
        Ok(grant)
    }
}

impl TokenId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_base64url(s: &str, chars: usize) -> bool {
    s.len() == chars
        && s.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl FromStr for TokenId {
    type Err = TokenFormatError;

    fn from_str(s: &str) -> Result<Self, TokenFormatError> {
        if is_base64url(s, ID_CHARS) {
            Ok(Self(s.into()))
        } else {
            Err(TokenFormatError)
        }
    }
}

impl FromStr for Token {
    type Err = TokenFormatError;

    fn from_str(s: &str) -> Result<Self, TokenFormatError> {
        let rest = s.strip_prefix(PREFIX).ok_or(TokenFormatError)?;
        // By position: an underscore may be part of the id.
        let (id, rest) = rest.split_at_checked(ID_CHARS).ok_or(TokenFormatError)?;
        let secret = rest.strip_prefix('_').ok_or(TokenFormatError)?;
        if !is_base64url(secret, SECRET_CHARS) {
            return Err(TokenFormatError);
        }
        Ok(Self {
            id: id.parse()?,
            secret: secret.into(),
        })
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, …)", self.id)
    }
}

impl TryFrom<String> for TokenId {
    type Error = TokenFormatError;

    fn try_from(s: String) -> Result<Self, TokenFormatError> {
        s.parse()
    }
}

impl From<TokenId> for String {
    fn from(id: TokenId) -> String {
        id.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_its_text_and_nothing_else_is_one() {
        let token = Token::random();
        let text = token.reveal();
        assert_eq!(text.len(), 61);
        let parsed: Token = text.parse().unwrap();
        assert_eq!((parsed.id(), parsed.digest()), (token.id(), token.digest()));
        let underscores = format!("uspk_{}_{}", "_".repeat(12), "_".repeat(43));
        assert_eq!(underscores.parse::<Token>().unwrap().reveal(), underscores);

        let longer = format!("{text}x");
        let foreign = format!("uspk_{}é_{}", "a".repeat(11), "a".repeat(42));
        for bad in [
            "",
            "uspk_",
            &text[1..],
            &text[..60],
            &longer,
            &foreign,
            &text.replace('_', "+"),
        ] {
            assert!(bad.parse::<Token>().is_err(), "{bad}");
        }
    }

    #[test]
    fn tokens_differ_and_hide_their_secret() {
        let (one, two) = (Token::random(), Token::random());
        assert_ne!(one.id(), two.id());
        assert_ne!(one.digest(), two.digest());
        let secret = &one.reveal()[18..];
        assert!(!format!("{one:?}").contains(secret));
    }
}

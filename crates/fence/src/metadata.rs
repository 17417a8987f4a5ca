//! How a fence travels in the metadata of a gRPC call: the names, and how they are read and written. It knows no gRPC; values
//! come and go as text. It keeps true: what is written here is read here, and what cannot be read is said by name.

use std::fmt;

use crate::{ClusterId, Token};

/// Of a call: the cluster, in hexadecimal; absent: the receiver's own.
pub const CLUSTER: &str = "palisade-cluster";
/// Of a call: name of the election, percent-encoded UTF-8.
pub const ELECTION: &str = "palisade-election";
/// Of a call: the token, decimal.
pub const TOKEN: &str = "palisade-token";
/// Of a refusal: [`STALE`], [`AHEAD`] or [`NOT_LEADER`].
pub const FENCE: &str = "palisade-fence";
/// Of a refusal: the receiver's token, decimal; absent if it knows none.
pub const CURRENT_TOKEN: &str = "palisade-current-token";
/// Of a refusal: where the leader is reached; absent if it is not known.
pub const LEADER: &str = "palisade-leader";
/// Of every error: [`NOT_HANDLED`], [`UNKNOWN`] or [`HANDLED`]; absent: unknown.
pub const OUTCOME: &str = "palisade-outcome";

/// The receiver knows a later leader.
pub const STALE: &str = "stale";
/// The token is above anything that the receiver could confirm.
pub const AHEAD: &str = "ahead";
/// Nobody leads that election here, and no guard is kept for it.
pub const NOT_LEADER: &str = "not-leader";

/// The call surely did not run.
pub const NOT_HANDLED: &str = "not_handled";
/// It may have run.
pub const UNKNOWN: &str = "unknown";
/// It ran.
pub const HANDLED: &str = "handled";

/// What a call says about its fence.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claimed {
    /// `None`: the receiver's own.
    pub cluster: Option<ClusterId>,
    /// Name of the election; empty: none was named.
    pub election: String,
    /// `None`: there was none.
    pub token: Option<Token>,
}

/// A value that cannot be read. The call was not handled.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadMetadata {
    /// Of the metadata.
    pub name: &'static str,
    /// What is wrong with its value.
    pub why: String,
}

impl fmt::Display for BadMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

impl std::error::Error for BadMetadata {}

impl Claimed {
    /// Reads a call's metadata; `value` gives what stands under a name.
    pub fn read<'a>(value: impl Fn(&'static str) -> Option<&'a [u8]>) -> Result<Claimed, BadMetadata> {
        let text = |name: &'static str| match value(name).map(std::str::from_utf8) {
            None => Ok(None),
            Some(Ok(text)) if text.is_ascii() => Ok(Some(text)),
            Some(_) => Err(BadMetadata { name, why: "it is not ASCII".to_owned() }),
        };
        let cluster = text(CLUSTER)?.map(str::parse::<ClusterId>).transpose();
        let token = text(TOKEN)?.map(str::parse::<Token>).transpose();
        Ok(Claimed {
            cluster: cluster.map_err(|error| BadMetadata { name: CLUSTER, why: error.to_string() })?,
            election: decode_election(text(ELECTION)?.unwrap_or_default())?,
            token: token.map_err(|error| BadMetadata { name: TOKEN, why: error.to_string() })?,
        })
    }
}

/// An election's name as metadata can carry it.
pub fn encode_election(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            // What gRPC leaves as it is in `grpc-message`; not the space, which a proxy may trim.
            0x21..=0x24 | 0x26..=0x7e => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// The name behind [`encode_election`]. A `%` that no two hexadecimal digits follow stands for itself, as in gRPC.
pub fn decode_election(text: &str) -> Result<String, BadMetadata> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push(u8::try_from(high * 16 + low).expect("two hexadecimal digits are a byte"));
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    let why = || "it is not percent-encoded UTF-8".to_owned();
    String::from_utf8(bytes).map_err(|_| BadMetadata { name: ELECTION, why: why() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,40}") {
            let text = encode_election(&name);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()), "{text}");
            prop_assert_eq!(decode_election(&text), Ok(name));
        }
    }

    #[test]
    fn what_cannot_be_read_is_said_by_name() {
        let claimed = |name: &'static str, value: &'static [u8]| Claimed::read(move |of| (of == name).then_some(value));
        for (name, value) in [(TOKEN, b"five" as &[u8]), (TOKEN, b"0"), (CLUSTER, b"xyz"), (ELECTION, b"%ff")] {
            assert_eq!(claimed(name, value).unwrap_err().name, name);
        }
        assert!(claimed(ELECTION, "ä".as_bytes()).unwrap_err().why.contains("ASCII"));
        assert_eq!(claimed(ELECTION, b"50%").unwrap().election, "50%");
        assert_eq!(claimed("other", b""), Ok(Claimed::default()));
        assert_eq!(claimed(TOKEN, b"7").unwrap().token, Some(Token::new(0, 7)));
    }
}

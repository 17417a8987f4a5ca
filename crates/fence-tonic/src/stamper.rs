//! The sender: stamps each call with a token. Keeps true: it never stamps a lower token than it has stamped before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use palisade_fence::{ClusterId, Token, TokenSource, metadata};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::refusal;

/// Stamps calls; for `XClient::with_interceptor`. Clones share what they have sent.
#[derive(Clone)]
pub struct Stamper {
    cluster: Option<MetadataValue<Ascii>>,
    election: MetadataValue<Ascii>,
    tokens: Arc<dyn TokenSource>,
    /// The highest token stamped so far.
    highest: Arc<AtomicU64>,
}

impl Stamper {
    /// Stamps what `tokens` has at each call: the sender's own token for calls to a worker, the addressee's for calls to a
    /// leader. While it has none, nothing is sent: the call fails with `FAILED_PRECONDITION`, `not-leader`, outcome
    /// `not_handled`.
    pub fn new(election: &str, tokens: Arc<dyn TokenSource>) -> Stamper {
        Stamper {
            cluster: None,
            election: ascii(&metadata::encode_election(election)),
            tokens,
            highest: Arc::default(),
        }
    }

    /// Names the cluster too, so that a receiver of another one refuses instead of comparing.
    #[must_use]
    pub fn of(mut self, cluster: ClusterId) -> Stamper {
        self.cluster = Some(ascii(&cluster.to_string()));
        self
    }

    /// The token of the next call. `Err`: the status that the call fails with instead.
    fn token(&self) -> Result<Token, Status> {
        let token = self.tokens.token().ok_or_else(|| refusal::not_leader(None, None))?;
        let before = self.highest.fetch_max(token.get(), Ordering::AcqRel);
        match Token::from_wire(before).filter(|before| *before > token) {
            Some(higher) => Err(refusal::stale(Some(higher), None)),
            None => Ok(token),
        }
    }
}

impl Interceptor for Stamper {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let token = self.token()?;
        let stamped = request.metadata_mut();
        if let Some(cluster) = &self.cluster {
            stamped.insert(metadata::CLUSTER, cluster.clone());
        }
        stamped.insert(metadata::ELECTION, self.election.clone());
        stamped.insert(metadata::TOKEN, ascii(&token.to_string()));
        Ok(request)
    }
}

impl std::fmt::Debug for Stamper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Stamper({:?}, next {:?})", self.election, self.tokens.token())
    }
}

/// Percent-encoded names, numbers and addresses in hexadecimal are ASCII.
fn ascii(text: &str) -> MetadataValue<Ascii> {
    MetadataValue::try_from(text).expect("it was written in visible ASCII")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Counter(Mutex<Option<u32>>);

    impl TokenSource for Counter {
        fn token(&self) -> Option<Token> {
            self.0.lock().unwrap().map(|n| Token::new(0, n))
        }
    }

    #[test]
    fn it_stamps_the_present_token_and_never_a_lower_one() {
        let counter = Arc::new(Counter(Mutex::new(None)));
        let mut stamper = Stamper::new("a b/æ", counter.clone()).of(ClusterId(0xc1));
        let next = |stamper: &mut Stamper, n: Option<u32>| {
            *counter.0.lock().unwrap() = n;
            let stamped = stamper.call(Request::new(()))?;
            let claimed = metadata::Claimed::read(|name| stamped.metadata().get(name).map(|value| value.as_bytes()));
            Ok::<_, Status>(claimed.unwrap())
        };
        let refused = next(&mut stamper, None).unwrap_err();
        assert_eq!(refused.metadata().get(metadata::FENCE).unwrap(), metadata::NOT_LEADER);
        let claimed = next(&mut stamper, Some(5)).unwrap();
        let (cluster, election, token) = (Some(ClusterId(0xc1)), "a b/æ".to_owned(), Some(Token::new(0, 5)));
        assert_eq!(claimed, metadata::Claimed { cluster, election, token });
        let refused = next(&mut stamper.clone(), Some(4)).unwrap_err();
        assert_eq!(refused.metadata().get(metadata::FENCE).unwrap(), metadata::STALE);
        assert_eq!(refused.metadata().get(metadata::CURRENT_TOKEN).unwrap(), "5");
        assert_eq!(next(&mut stamper, Some(6)).unwrap().token, Some(Token::new(0, 6)));
    }
}

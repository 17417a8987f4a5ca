//! A candidacy that nobody here wants any more, until the store has said that it does not stand.
//!
//! Keeps true: the withdrawal is sent on every stream until it is answered, also where the store does not show the candidacy: a
//! campaign that was sent on an earlier stream may come late, and only the answer proves that it will be refused.

use std::time::Duration;

use palisade_wire::coord::v1::error_detail::Kind;
use palisade_wire::coord::v1::{self, ErrorDetail, client_frame};

use super::entry::Link;
use super::received::{ENDED, Verdict};
use super::{Effect, Key, Retry, Sent, SessionCore};

/// A candidacy that is being withdrawn.
#[derive(Debug)]
pub(super) struct Withdrawal {
    /// The election and the candidate's id: no campaign under the same names is sent before, because the store might answer it
    /// with the place that is being given up.
    pub(super) names: (String, String),
    /// On the present stream, and not answered.
    pub(super) sent: Option<Sent>,
    pub(super) retry: Retry,
}

impl Withdrawal {
    pub(super) fn of(election: String, candidate: String) -> Withdrawal {
        Withdrawal { names: (election, candidate), sent: None, retry: Retry::default() }
    }

    /// Whether it is to be sent now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        self.sent.is_none() && self.retry.at <= now
    }

    pub(super) fn frame(key: Key) -> client_frame::Body {
        client_frame::Body::Withdraw(v1::Withdraw { session: key.session, serial: key.serial })
    }
}

impl SessionCore {
    /// The store says that it does not stand, and never will again.
    pub(super) fn withdrew(&mut self, withdrew: &v1::Withdrew) {
        self.fruitful();
        if let Some(entry) = self.sessions.get_mut(&withdrew.session) {
            entry.withdrawing.remove(&withdrew.serial);
        }
    }

    pub(super) fn withdrawal_sent_as(&self, call: u64) -> Option<Key> {
        self.sessions.iter().find_map(|(&session, entry)| {
            let mut all = entry.withdrawing.iter();
            let found = all.find(|(_, it)| it.sent.is_some_and(|sent| sent.call == call));
            found.map(|(&serial, _)| Key { session, serial })
        })
    }

    pub(super) fn withdrawal_refused(
        &mut self,
        key: Key,
        verdict: &Verdict,
        detail: &ErrorDetail,
        now: Duration,
        out: &mut Vec<Effect>,
    ) {
        let entry = self.sessions.get_mut(&key.session).expect("it was found by its call");
        let withdrawal = entry.withdrawing.get_mut(&key.serial).expect("it was found by its call");
        withdrawal.sent = None;
        match verdict {
            Verdict::Later | Verdict::Elsewhere => withdrawal.retry.later(now),
            Verdict::SessionEnded => self.ended(key.session, ENDED, out),
            // The store has the session on another stream: an older attach overtook the newer one.
            Verdict::Never if detail.kind() == Kind::InvalidArgument && detail.field == "session" => {
                withdrawal.retry.later(now);
                entry.link = Link::Detached;
            }
            // No candidacy can have this serial.
            Verdict::Never => {
                entry.withdrawing.remove(&key.serial);
            }
        }
    }
}

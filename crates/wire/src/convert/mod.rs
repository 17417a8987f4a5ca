//! Between messages and the state machine's types: requests to commands, outcomes to answers, and back for clients.
//!
//! A request that is not allowed gives an `INVALID_ARGUMENT` that names the field, the value and the limit, before
//! anything is proposed. It decides nothing else.

// A refusal is built once per refused request and moves straight into a status: a box in every signature buys nothing.
#![allow(clippy::result_large_err)]

mod answer;
mod check;
mod handover;
mod key_limits;
mod keys;
mod observe;
mod read;
mod request;
mod session;
mod watch;

pub use answer::{
    election_summary, end_is_asked, grant, header, header_at, history, key_value, leader_value, on_disconnect, refusal,
};
pub use check::invalid;
pub use handover::{close_session, losing, resign, transfer, withdraw, withdraw_by_id};
pub use key_limits::KeyLimits;
pub use keys::{compact, found, range, range_result, txn, txn_result};
pub use observe::{Gap, observed_events, observed_gap, observed_state};
pub use read::{OutOfRange, end_reason_from, grant_from, on_disconnect_from, value_from};
pub use request::{
    Observe, ObserveFrom, attach, campaign, close, delete, election, elections_after, fence, get, keep_alive, observe,
    open, proclaim, put, sessions_after,
};
pub use session::{Asked, frame_body, session_event, session_summary};
pub use watch::{Tells, Watch, watch};

//! Between messages and the state machine's types: requests to commands, outcomes to answers, and back for clients.
//!
//! A request that is not allowed gives an `INVALID_ARGUMENT` that names the field, the value and the limit, before
//! anything is proposed. It decides nothing else.

// A refusal is built once per refused request and moves straight into a status: a box in every signature buys nothing.
#![allow(clippy::result_large_err)]

mod answer;
mod check;
mod keys;
mod read;
mod request;

pub use answer::{
    frame_body, grant, header, header_at, history, key_value, leader_value, observed_events, observed_state,
    on_disconnect, refusal, session_event,
};
pub use check::invalid;
pub use keys::{compact, found, range, range_result, txn, txn_result};
pub use read::{OutOfRange, end_reason_from, grant_from, on_disconnect_from, value_from};
pub use request::{
    attach, campaign, close, delete, election, fence, get, keep_alive, observe, open, proclaim, put, resign,
};

//! The planted bug of requests is caught by the test that stands for its rule.

use palisade_planted::{Bug, caught};

use crate::requests;

#[test]
fn retry_unknown_without_id_is_caught() {
    let check = requests::a_put_whose_connection_breaks_after_sending_is_unknown_and_never_sent_again;
    let why = caught(Bug::RetryUnknownWithoutId, check).expect("it must be caught");
    assert!(why.contains("unwrap_err"), "{why}");
}

//! `palisade elect history`: who led before, and why it ended.

use palisade_client::{Client, Reading, Reign};
use palisade_fence::Fence;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::exit::Failure;
use crate::output;

pub(super) async fn run(election: &str, reading: Reading, global: &Global, client: &Client) -> Result<(), Failure> {
    let history = client.history(election, reading).await?;
    let document = |reign: &Reign| {
        json!({
            "candidate": reign.candidate, "token": reign.token.get(),
            "fence": Fence { election: election.to_owned(), token: reign.token }.to_string(),
            "session": reign.session, "since_seq": reign.since_seq, "until_seq": reign.until_seq,
            "since_unix_ms": reign.since_unix_ms, "until_unix_ms": reign.until_unix_ms, "why": reign.why,
        })
    };
    let reigns: Vec<Value> = history.reigns.iter().map(document).collect();
    let document = json!({
        "election": election, "reigns": reigns, "complete_after_seq": history.complete_after_seq,
        "seq": history.header.seq,
    });
    output::show(global.output, &document, || {
        let rows = history.reigns.iter().map(|reign| {
            let held_ms = reign.until_unix_ms.saturating_sub(reign.since_unix_ms);
            vec![
                reign.candidate.clone(),
                reign.token.to_string(),
                reign.since_seq.to_string(),
                reign.until_seq.to_string(),
                format!("{held_ms}ms"),
                reign.why.clone(),
            ]
        });
        output::table(&["LEADER", "TOKEN", "SINCE", "UNTIL", "HELD", "WHY"], rows.collect())
    });
    Ok(())
}

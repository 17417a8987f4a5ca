//! `palisade session …`: the sessions of a cluster, for administrators.

use palisade_client::{OnDisconnect, SessionSummary, SessionWish};
use palisade_world::World;
use serde_json::{Value, json};

use crate::cli::{Global, SessionCommand};
use crate::elect::{connect, ends, reading};
use crate::exit::Failure;
use crate::output;
use crate::units::ms;

pub(crate) async fn run(command: SessionCommand, global: &Global, world: World) -> Result<(), Failure> {
    let client = connect(global, &world)?;
    match command {
        SessionCommand::List { read } => {
            show(&client.sessions(reading(read)).await?, global);
            Ok(())
        }
        SessionCommand::Close { id, demand } => ends::close(id, demand, global, &client).await,
    }
}

fn show(sessions: &[SessionSummary], global: &Global) {
    let document = |it: &SessionSummary| {
        json!({
            "session": it.session, "ttl_ms": ms(it.ttl), "release_after_ms": release_after(it).map(ms),
            "attach_generation": it.attach_generation, "leaderships": it.leaderships, "waiting": it.waiting,
            "bound_keys": it.bound_keys, "wish": it.wish.map(wish),
        })
    };
    let all: Vec<Value> = sessions.iter().map(document).collect();
    output::show(global.output, &json!({ "sessions": all }), || {
        let rows = sessions.iter().map(|it| {
            let kind =
                release_after(it).map_or("keep until the TTL".to_owned(), |after| format!("release after {after:?}"));
            vec![
                it.session.to_string(),
                format!("{:?}", it.ttl),
                kind,
                it.leaderships.to_string(),
                it.waiting.to_string(),
                it.bound_keys.to_string(),
                it.wish.map_or("-", wish).to_owned(),
            ]
        });
        output::table(&["SESSION", "TTL", "KIND", "LEADS", "WAITS", "KEYS", "ASKED"], rows.collect())
    });
}

fn release_after(session: &SessionSummary) -> Option<std::time::Duration> {
    match session.on_disconnect {
        OnDisconnect::KeepUntilTtl => None,
        OnDisconnect::ReleaseAfter(after) => Some(after),
    }
}

fn wish(wish: SessionWish) -> &'static str {
    match wish {
        SessionWish::Close => "close",
        SessionWish::StopRenewing => "stop_renewing",
    }
}

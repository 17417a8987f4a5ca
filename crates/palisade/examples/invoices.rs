//! A service of which exactly one replica works: it hands out invoice numbers, each of them once, without a gap.
//!
//! Start it twice, ask either, kill the one that leads, ask again:
//!
//! ```sh
//! cargo run -p palisade --example invoices -- 127.0.0.1:7071,127.0.0.1:7072,127.0.0.1:7073 invoices-1 127.0.0.1:9001 &
//! cargo run -p palisade --example invoices -- 127.0.0.1:7071,127.0.0.1:7072,127.0.0.1:7073 invoices-2 127.0.0.1:9002 &
//! echo next | nc -N 127.0.0.1 9001
//! ```
//!
//! To each line that comes in, one goes out: `number 7`, or `ask 127.0.0.1:9002`, or `nobody leads`, or `unknown` (the
//! number may have been taken; ask for another).
//!
//! What keeps a number from being handed out twice is not that two replicas never believe in their leadership at once: nobody
//! can promise that. It is the fence on the one write that takes a number, which the store checks.

use std::error::Error as StdError;
use std::time::Duration;

use palisade_client::{
    CampaignOptions, Client, ClientConfig, Error, Leadership, OnDisconnect, Outcome, PutOptions, SessionOptions, Value,
};
use palisade_world::{Socket, World};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::{mpsc, oneshot};

const ELECTION: &str = "invoices";

/// The last number that was handed out, in decimal digits.
const LAST: &[u8] = b"invoices/last";

/// Callers that wait for a number; more than that wait in their sockets.
const WAITING: usize = 64;

/// Somebody who waits for a number.
type Caller = oneshot::Sender<String>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn StdError>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoints), Some(id), Some(address)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: invoices ENDPOINT,... ID ADDRESS".into());
    };
    let world = World::real();
    let endpoints = endpoints.split(',').map(str::to_owned).collect();
    let client = Client::new(ClientConfig { endpoints, request_timeout: Duration::from_secs(5) }, world.clone())?;

    let (callers, waiting) = mpsc::channel(WAITING);
    let serving = serve(world, address.clone(), callers);
    let working = work(&client, id, address, waiting);
    tokio::select! {
        ended = serving => ended,
        never = working => match never {},
    }
}

// --- the leader ---

/// Leads whenever it can, for ever. Whatever ends a leadership, the process stays, and campaigns again.
async fn work(
    client: &Client,
    id: String,
    address: String,
    mut callers: mpsc::Receiver<Caller>,
) -> std::convert::Infallible {
    loop {
        match campaign(client, &id, &address, &mut callers).await {
            Ok(leadership) => {
                println!("leads under {}", leadership.token());
                let why = hand_out(client, &leadership, &mut callers).await;
                println!("leads no more: {why}");
                // By the session: whatever of it is left in the store goes with it.
                let _ = leadership.session().clone().close().await; // its TTL ends it otherwise
            }
            Err(error) => {
                eprintln!("cannot campaign: {error}");
                client.world().sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// Waits until it leads, and meanwhile sends callers to whoever does.
async fn campaign(
    client: &Client,
    id: &str,
    address: &str,
    callers: &mut mpsc::Receiver<Caller>,
) -> Result<Leadership, Error> {
    // Everything this leader does is fenced: so the next may lead the moment that its connection breaks.
    let on_disconnect = OnDisconnect::ReleaseAfter(Duration::ZERO);
    let session = client
        .open_session(SessionOptions { ttl: Duration::from_secs(1), on_disconnect, ..SessionOptions::default() })
        .await?;
    let campaign = session.campaign(CampaignOptions {
        election: ELECTION.to_owned(),
        candidate_id: id.to_owned(),
        value: Value::at(address),
        priority: 0,
    });
    tokio::pin!(campaign);
    loop {
        tokio::select! {
            leadership = &mut campaign => return leadership,
            Some(caller) = callers.recv() => {
                let answer = match client.leader(ELECTION).await {
                    Ok(Some(leader)) if leader.value.address != address => format!("ask {}", leader.value.address),
                    Ok(_) | Err(_) => "nobody leads".to_owned(),
                };
                let _ = caller.send(answer); // it may have hung up
            }
        }
    }
}

/// Hands out numbers for as long as it leads. Returns why it stopped.
async fn hand_out(client: &Client, leadership: &Leadership, callers: &mut mpsc::Receiver<Caller>) -> String {
    // Read after the grant, so every write under an older token has come, or will be refused.
    let mut last = match last_number(client).await {
        Ok(last) => last,
        Err(error) => return error.to_string(),
    };
    loop {
        let caller = tokio::select! {
            biased;
            why = leadership.lost() => return why.to_string(),
            // Nobody waits for a number at this moment: whoever wants it may have the leadership.
            request = leadership.end_requested() => return format!("asked to hand over to {}", request.to.as_deref().unwrap_or("whoever is next")),
            caller = callers.recv() => caller.expect("the service holds the other end until the process ends"),
        };
        let put = PutOptions {
            fence: Some(leadership.fence()),
            session: Some(leadership.session()), // so that the client may repeat it, and it takes effect once
            ..PutOptions::new(LAST, (last + 1).to_string())
        };
        match client.put(put).await {
            Ok(_) => {
                last += 1;
                let _ = caller.send(format!("number {last}")); // or the number is lost, as a letter may be
            }
            Err(error) => {
                let answer = if error.outcome == Outcome::Unknown { "unknown" } else { "nobody leads" };
                let _ = caller.send(answer.to_owned());
                // Stale: somebody else leads. Unknown: what is in the store must be read again, under a new token.
                return error.to_string();
            }
        }
    }
}

async fn last_number(client: &Client) -> Result<u64, Error> {
    let kv = client.get(LAST.to_vec()).await?.kv;
    let digits = kv.map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    Ok(digits.and_then(|digits| digits.parse().ok()).unwrap_or(0))
}

// --- the socket ---

async fn serve(world: World, address: String, callers: mpsc::Sender<Caller>) -> Result<(), Box<dyn StdError>> {
    let mut listener = world.bind(&address).await?;
    loop {
        let Ok(socket) = listener.accept().await else { continue };
        world.spawn("connection", answer_lines(socket, callers.clone())).detach();
    }
}

async fn answer_lines(socket: Socket, callers: mpsc::Sender<Caller>) {
    let (read, mut write) = tokio::io::split(socket);
    let mut lines = BufReader::new(read).lines();
    while let Ok(Some(_)) = lines.next_line().await {
        let (caller, answer) = oneshot::channel();
        if callers.send(caller).await.is_err() {
            return;
        }
        let answer = answer.await.unwrap_or_else(|_| "unknown".to_owned());
        if write.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

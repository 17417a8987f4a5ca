//! A wire that can be cut and that can go silent.

use std::sync::{Arc, Mutex};

use palisade_world::{Socket, Task, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Pass,
    /// Nothing moves; nothing is closed.
    Silent,
}

/// Forwards connections to one address.
pub(crate) struct Proxy {
    pub(crate) address: String,
    mode: watch::Sender<Mode>,
    wires: Arc<Mutex<Vec<Task<()>>>>,
    _accepting: Task<()>,
}

impl Proxy {
    pub(crate) async fn to(target: &str) -> Proxy {
        let world = World::real();
        let mut listener = world.bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().to_string();
        let (mode, modes) = watch::channel(Mode::Pass);
        let wires: Arc<Mutex<Vec<Task<()>>>> = Arc::default();
        let (target, kept) = (target.to_owned(), Arc::clone(&wires));
        let accepting = World::real().spawn("proxy", async move {
            while let Ok(near) = listener.accept().await {
                let Ok(far) = world.connect(&target).await else { continue };
                let wire = world.spawn("wire", wire(near, far, modes.clone()));
                kept.lock().unwrap().push(wire);
            }
        });
        Proxy { address, mode, wires, _accepting: accepting }
    }

    /// Closes every connection; new ones pass.
    pub(crate) fn cut(&self) {
        self.wires.lock().unwrap().clear();
    }

    pub(crate) fn silence(&self) {
        self.mode.send_replace(Mode::Silent);
    }

    pub(crate) fn speak(&self) {
        self.mode.send_replace(Mode::Pass);
    }
}

async fn wire(near: Socket, far: Socket, modes: watch::Receiver<Mode>) {
    let ((near_read, near_write), (far_read, far_write)) = (tokio::io::split(near), tokio::io::split(far));
    tokio::join!(pump(near_read, far_write, modes.clone()), pump(far_read, near_write, modes));
}

async fn pump(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    mut modes: watch::Receiver<Mode>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        if modes.wait_for(|mode| *mode == Mode::Pass).await.is_err() || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

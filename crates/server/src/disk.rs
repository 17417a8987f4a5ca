//! Looks at the disk now and then, for admission and health. It frees nothing.

use std::sync::Arc;
use std::time::Duration;

use palisade_storage::{EngineHealth, LogEngine};
use palisade_world::{Task, World};
use tokio::sync::watch;

/// How often it looks. The engine keeps a reserve that outlasts this at full speed.
const LOOK: Duration = Duration::from_millis(250);

/// Starts looking. The receiver changes only when the kind of trouble does or when numbers in it do.
pub(crate) fn start(engine: Arc<dyn LogEngine>, world: &World) -> (watch::Receiver<EngineHealth>, Task<()>) {
    let (told, disk) = watch::channel(engine.health());
    let pause = world.clone();
    let task = world.spawn("disk", async move {
        loop {
            pause.sleep(LOOK).await;
            let now = engine.health();
            let news = *told.borrow() != now;
            if news {
                if now == EngineHealth::Ok {
                    tracing::info!("the disk takes writes again");
                } else if *told.borrow() == EngineHealth::Ok {
                    tracing::error!(problem = %now, "the disk does not take writes");
                }
                told.send_replace(now);
            }
        }
    });
    (disk, task)
}

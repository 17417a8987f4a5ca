//! Looks at the disk now and then, for admission, replication and health, and gives the leadership of the store away when the disk
//! is full. It frees nothing.

use std::sync::Arc;
use std::time::Duration;

use palisade_replica::{Replica, Role, Room};
use palisade_storage::{EngineHealth, FullState, LogEngine};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::machine::CoordMachine;

/// How often it looks. The engine keeps a reserve that outlasts this at full speed.
const LOOK: Duration = Duration::from_millis(250);

/// Looks between two attempts to hand over while nobody takes it: all disks may be full, and an attempt holds writes up that are
/// refused anyway, and reads that are not.
const PATIENCE: u32 = 20;

/// Starts looking. The receiver changes only when the kind of trouble does or when numbers in it do.
pub(crate) fn start(
    engine: Arc<dyn LogEngine>,
    replica: Replica<CoordMachine>,
    world: &World,
) -> (watch::Receiver<EngineHealth>, Task<()>) {
    let (told, disk) = watch::channel(engine.health());
    replica.room_is(room(&disk.borrow()));
    let pause = world.clone();
    let task = world.spawn("disk", async move {
        let mut waits = 0;
        loop {
            pause.sleep(LOOK).await;
            let now = engine.health();
            replica.room_is(room(&now));
            let news = *told.borrow() != now;
            if news {
                if now == EngineHealth::Ok {
                    tracing::info!("the disk takes writes again");
                } else if *told.borrow() == EngineHealth::Ok {
                    tracing::error!(problem = %now, "the disk does not take writes");
                    waits = 0;
                }
                told.send_replace(now);
            }
            waits = match waits {
                0 if must_hand_over(&told.borrow(), replica.status().borrow().role) => {
                    let handed_over = replica.hand_over().await;
                    tracing::info!(handed_over, "the disk is full, another node is to lead the store");
                    PATIENCE
                }
                waits => waits.saturating_sub(1),
            };
        }
    });
    (disk, task)
}

/// What replication may use.
fn room(health: &EngineHealth) -> Room {
    match health {
        EngineHealth::Ok | EngineHealth::Failed { .. } => Room::Enough, // a log that failed says so itself
        EngineHealth::DiskFull { free_bytes, reserve_bytes, state: FullState::ReserveReached }
            if free_bytes.saturating_mul(2) >= *reserve_bytes =>
        {
            Room::Little
        }
        EngineHealth::DiskFull { .. } => Room::None,
    }
}

/// Whether the leadership of the store belongs elsewhere.
fn must_hand_over(health: &EngineHealth, role: Role) -> bool {
    role == Role::Leader && matches!(health, EngineHealth::DiskFull { .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_the_reserve_is_the_log_s() {
        let full = |free_bytes, state| EngineHealth::DiskFull { free_bytes, reserve_bytes: 64, state };
        assert_eq!(room(&EngineHealth::Ok), Room::Enough);
        assert_eq!(room(&full(63, FullState::ReserveReached)), Room::Little);
        assert_eq!(room(&full(32, FullState::ReserveReached)), Room::Little);
        assert_eq!(room(&full(31, FullState::ReserveReached)), Room::None);
        assert_eq!(room(&full(63, FullState::WritesRefused)), Room::None);
        assert!(must_hand_over(&full(63, FullState::ReserveReached), Role::Leader));
        assert!(!must_hand_over(&full(63, FullState::ReserveReached), Role::Follower));
        assert!(!must_hand_over(&EngineHealth::Ok, Role::Leader));
    }
}

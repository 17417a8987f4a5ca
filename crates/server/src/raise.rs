//! Whether the level of the cluster may be raised: a pure judgement of what the members say. Once it is raised, a program that does
//! not know it cannot take part any more, so every member must say that it knows it; one that is silent may be of any version.

use palisade_planted::{self as planted, Bug};
use palisade_replica::Peer;

/// The level stays as it is.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum NotRaised {
    /// A level never falls.
    #[error("the cluster is at level {at}, and a level never falls")]
    Passed { at: u32 },
    /// A member's program is too old.
    #[error("{member} runs a program that knows levels up to {knows}, not {level}: upgrade it first, or remove it")]
    Unknown { member: Peer, knows: u32, level: u32 },
    /// A member's program is from before there were levels: it would stop at the very command.
    #[error("{member} runs a program from before there were levels: upgrade it first, or remove it")]
    BeforeLevels { member: Peer },
    /// A member's program may be of any version.
    #[error("{member} does not say which levels its program knows: it must run, and answer, or be removed first")]
    Silent { member: Peer },
}

/// Whether a cluster at one level may be raised to another.
pub(crate) fn may_be_raised(level: u32, at: u32, members: &[(Peer, Option<u32>)]) -> Result<(), NotRaised> {
    if level < at {
        return Err(NotRaised::Passed { at });
    }
    if planted::is(Bug::LevelUnasked) {
        return Ok(());
    }
    for (member, knows) in members {
        let member = member.clone();
        match *knows {
            Some(0) => return Err(NotRaised::BeforeLevels { member }),
            Some(knows) if knows >= level => {}
            Some(knows) => return Err(NotRaised::Unknown { member, knows, level }),
            None => return Err(NotRaised::Silent { member }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(node_id: u64) -> Peer {
        Peer { node_id, address: format!("n{node_id}:1"), store_id: node_id }
    }

    fn every_member_is_asked() {
        let raise = |second, third| may_be_raised(2, 1, &[(peer(1), Some(2)), (peer(2), second), (peer(3), third)]);
        assert_eq!(raise(Some(2), Some(3)), Ok(()));
        let words = raise(Some(2), Some(1)).expect_err("node 3 would stop").to_string();
        assert_eq!(
            words,
            "node 3 (n3:1) runs a program that knows levels up to 1, not 2: upgrade it first, or remove it"
        );
        assert_eq!(raise(Some(0), Some(2)), Err(NotRaised::BeforeLevels { member: peer(2) }));
        assert_eq!(may_be_raised(1, 1, &[(peer(1), Some(0))]), Err(NotRaised::BeforeLevels { member: peer(1) }));
        assert_eq!(raise(None, Some(2)), Err(NotRaised::Silent { member: peer(2) }));
        assert_eq!(may_be_raised(1, 2, &[]), Err(NotRaised::Passed { at: 2 }));
    }

    #[test]
    fn a_level_is_raised_only_if_every_member_knows_it() {
        every_member_is_asked();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_asks_nobody_is_caught() {
        let why = palisade_planted::caught(Bug::LevelUnasked, every_member_is_asked);
        assert!(why.is_some_and(|why| why.contains("node 3 would stop")));
    }
}

//! Liveness: after healing, the store elects somebody and acknowledges writes.

use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;
use crate::phase::Phase;

/// So many acknowledged writes must come after healing.
const WRITES: u64 = 5;

#[derive(Default)]
pub(super) struct ServesAgain {
    healed: bool,
    writes: u64,
    grants: u64,
}

impl Invariant for ServesAgain {
    fn name(&self) -> &'static str {
        "serves-again"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if self.healed {
            match fact {
                Fact::Acknowledged { .. } => self.writes += 1,
                Fact::Granted { .. } => self.grants += 1,
                _ => {}
            }
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.healed |= phase == Phase::Healed;
    }

    fn missing(&self) -> Option<String> {
        let served = self.writes >= WRITES && self.grants > 0;
        (!served).then(|| format!("since healing there were {} writes and {} grants", self.writes, self.grants))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_healing_on() {
        let mut serves = ServesAgain::default();
        let acknowledged = Fact::Acknowledged { key: String::new(), number: 1 };
        let granted = Fact::Granted { candidate: "a".into(), token: palisade_fence::Token::new(0, 1), seq: 1 };
        let on = |serves: &mut ServesAgain, fact: &Fact| serves.on(fact, Duration::ZERO).expect("it never objects");
        on(&mut serves, &granted);
        serves.phase(Phase::Healed, Duration::ZERO);
        (0..WRITES).for_each(|_| on(&mut serves, &acknowledged));
        assert!(serves.missing().is_some(), "the grant came before");
        on(&mut serves, &granted);
        assert_eq!(serves.missing(), None);
    }
}

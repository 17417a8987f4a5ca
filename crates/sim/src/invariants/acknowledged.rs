//! What was acknowledged is visible: a linearizable read returns at least the highest number that was acknowledged before it
//! began, and never one that nobody tried to write.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::Fact;

#[derive(Default)]
pub(super) struct AcknowledgedIsVisible {
    attempted: BTreeMap<String, u64>,
}

impl Invariant for AcknowledgedIsVisible {
    fn name(&self) -> &'static str {
        "acknowledged-is-visible"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Attempted { key, number } => {
                let highest = self.attempted.entry(key.clone()).or_default();
                *highest = (*highest).max(*number);
                Ok(())
            }
            Fact::Read { key, number, acknowledged_before } => {
                let attempted = self.attempted.get(key).copied().unwrap_or_default();
                if number < acknowledged_before {
                    Err(format!(
                        "{key}: a read returned {number}, but {acknowledged_before} had been acknowledged before it began"
                    ))
                } else if *number > attempted {
                    Err(format!("{key}: a read returned {number}, but nothing above {attempted} was ever written"))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let mut acknowledged = AcknowledgedIsVisible::default();
        let read = |number, acknowledged_before| Fact::Read { key: "k".into(), number, acknowledged_before };
        assert!(acknowledged.on(&Fact::Attempted { key: "k".into(), number: 3 }, Duration::ZERO).is_ok());
        assert!(acknowledged.on(&read(2, 2), Duration::ZERO).is_ok());
        assert!(acknowledged.on(&read(1, 2), Duration::ZERO).is_err());
        assert!(acknowledged.on(&read(4, 2), Duration::ZERO).is_err());
    }
}

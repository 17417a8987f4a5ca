//! A fault that was asked for and never happened fails the run: what was not tried was not tested.

use super::Expected;
use crate::history::{Record, Type};
use crate::verdict::{Finding, Verdict};

pub(crate) fn check(history: &[Record], expected: &Expected) -> Finding {
    let count = |f: &str, kind| history.iter().filter(|r| r.f == f && r.kind == kind).count();
    let kills = count("kill", Type::Ok);
    let stale = history.iter().filter(|r| r.f == "write" && r.kind == Type::Fail && r.value == "stale").count();
    let writes = count("write", Type::Ok);
    let detail = format!("{kills} holders killed, {writes} writes, {stale} stale writes refused");
    let enough = kills >= expected.kills && stale >= expected.stale_refused;
    let verdict = if enough { Verdict::Pass } else { Verdict::Unknown };
    let detail = if enough {
        detail
    } else {
        format!("{detail}; at least {} and {} were asked for", expected.kills, expected.stale_refused)
    };
    Finding { checker: "coverage", verdict, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_never_happened_is_not_a_pass() {
        let expected = Expected { kills: 1, stale_refused: 0 };
        assert_eq!(check(&[], &expected).verdict, Verdict::Unknown);
        assert_eq!(check(&[Record::new("nemesis", Type::Ok, "kill")], &expected).verdict, Verdict::Pass);
    }
}

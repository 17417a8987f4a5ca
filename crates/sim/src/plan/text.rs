//! A plan as text, one thing per line, for people to read and change. `#` begins a comment.
//!
//! ```text
//! seed 93
//! cast node 4 candidate 2 writer 1 observer 1
//! founders 3
//! behind node-2 candidate-1
//! latency 0.7ms to 4.2ms
//! sync-every 2ms
//! snapshot-every 120
//! faults-for 9.5s
//! at 2.31s for 0.8s crash node-1
//! at 3s for 1.2s cut hold isolate candidate-1
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Cut, Fault, Pattern, Plan, Planned, Role, Saved, Who};

/// A line that is not part of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Which line, from 1; 0: something is missing altogether.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.why)
    }
}

impl std::error::Error for ParseError {}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}", self.seed)?;
        let cast: Vec<_> = self.cast.iter().map(|(role, count)| format!("{} {count}", role.name())).collect();
        writeln!(f, "cast {}", cast.join(" "))?;
        if self.founders != self.count(Role::Node) {
            writeln!(f, "founders {}", self.founders)?;
        }
        for (who, node) in &self.behind {
            writeln!(f, "behind {} {who}", Who::node(*node))?;
        }
        writeln!(f, "latency {:?} to {:?}", self.latency.0, self.latency.1)?;
        writeln!(f, "sync-every {:?}", self.sync_every)?;
        writeln!(f, "snapshot-every {}", self.snapshot_every)?;
        writeln!(f, "faults-for {:?}", self.faults_for)?;
        for Planned { at, lasts, fault } in &self.faults {
            writeln!(f, "at {at:?} for {lasts:?} {fault}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Crash(who) => write!(f, "crash {who}"),
            Fault::CrashAll => f.write_str("crash-all"),
            Fault::Restart(node) => write!(f, "restart {node}"),
            Fault::Pause(who) => write!(f, "pause {who}"),
            Fault::Cut(pattern, cut) => {
                let cut = if *cut == Cut::Drop { "drop" } else { "hold" };
                write!(f, "cut {cut} {pattern}")
            }
            Fault::SlowDisk(node) => write!(f, "slow-disk {node}"),
            Fault::FailSync(node) => write!(f, "fail-sync {node}"),
            Fault::FillDisk(node) => write!(f, "fill-disk {node}"),
            Fault::LowDisk(node) => write!(f, "low-disk {node}"),
            Fault::FillFiles(who) => write!(f, "fill-files {who}"),
            Fault::Wipe(node) => write!(f, "wipe {node}"),
            Fault::ClockRate(who, ppm) => write!(f, "clock-rate {who} {ppm}"),
            Fault::ClockJump(who, ms) => write!(f, "clock-jump {who} {ms}"),
            Fault::Lag(pattern, lag) => write!(f, "lag {lag:?} {pattern}"),
            Fault::TransferStoreLeader(node) => write!(f, "transfer {node}"),
            Fault::Restore(Saved::First) => f.write_str("restore first"),
            Fault::Restore(Saved::Last) => f.write_str("restore last"),
            Fault::Revive(node) => write!(f, "revive {node}"),
            Fault::Upgrade(node) => write!(f, "upgrade {node}"),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pattern::Isolate(who) => write!(f, "isolate {who}"),
            Pattern::FromStore(who) => write!(f, "from-store {who}"),
            Pattern::Halves(side) => {
                f.write_str("halves")?;
                side.iter().try_for_each(|node| write!(f, " {node}"))
            }
            Pattern::Ring => f.write_str("ring"),
            Pattern::Bridge(node) => write!(f, "bridge {node}"),
            Pattern::Only(one, other) => write!(f, "only {one} {other}"),
            Pattern::OneWay(from, to) => write!(f, "one-way {from} {to}"),
            Pattern::Link(one, other) => write!(f, "link {one} {other}"),
            Pattern::Apart(side) => {
                f.write_str("apart")?;
                side.iter().try_for_each(|who| write!(f, " {who}"))
            }
        }
    }
}

impl FromStr for Plan {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Plan, ParseError> {
        let mut plan = Plan {
            seed: 0,
            cast: [(Role::Node, 3)].into(),
            founders: 0,
            behind: BTreeMap::new(),
            latency: (Duration::from_millis(1), Duration::from_millis(4)),
            sync_every: Duration::from_millis(2),
            snapshot_every: 200,
            faults_for: Duration::from_secs(8),
            faults: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
            read_line(&mut plan, &words).map_err(|why| ParseError { line: number + 1, why })?;
        }
        if plan.founders == 0 {
            plan.founders = plan.count(Role::Node);
        }
        if plan.founders > plan.count(Role::Node) {
            return Err(ParseError { line: 0, why: format!("founders: there are {} nodes", plan.count(Role::Node)) });
        }
        let of_faults = plan.faults.iter().flat_map(|planned| planned.fault.names());
        let behind = plan.behind.iter().flat_map(|(who, node)| [*who, Who::node(*node)]);
        let missing = of_faults.chain(behind).find(|who| who.number > plan.count(who.role));
        match missing {
            Some(who) => Err(ParseError { line: 0, why: format!("{who} does not take part") }),
            None => Ok(plan),
        }
    }
}

fn read_line(plan: &mut Plan, words: &[&str]) -> Result<(), String> {
    match words {
        [] => {}
        ["seed", seed] => plan.seed = number(seed)?,
        ["cast", cast @ ..] => {
            plan.cast.clear();
            for pair in cast.chunks(2) {
                let [role, count] = pair else { return Err("cast: a role without a number".to_owned()) };
                plan.cast.insert(role.parse()?, number(count)?);
            }
        }
        ["founders", count] => plan.founders = number(count)?,
        ["behind", node, who] => {
            let (node, who): (Who, Who) = (node.parse()?, who.parse()?);
            if node.role != Role::Node || !who.role.may_be_behind() {
                return Err(format!("behind: {who} cannot be behind {node}"));
            }
            plan.behind.insert(who, node.number);
        }
        ["latency", least, "to", most] => plan.latency = (span(least)?, span(most)?),
        ["sync-every", every] => plan.sync_every = span(every)?,
        ["snapshot-every", every] => plan.snapshot_every = number(every)?,
        ["faults-for", long] => plan.faults_for = span(long)?,
        ["at", at, "for", lasts, fault @ ..] => {
            plan.faults.push(Planned { at: span(at)?, lasts: span(lasts)?, fault: read_fault(fault)? });
        }
        [other, ..] => return Err(format!("'{other}' is not part of a plan")),
    }
    Ok(())
}

fn read_fault(words: &[&str]) -> Result<Fault, String> {
    Ok(match words {
        ["crash", who] => Fault::Crash(who.parse()?),
        ["crash-all"] => Fault::CrashAll,
        ["restart", node] => Fault::Restart(number(node)?),
        ["pause", who] => Fault::Pause(who.parse()?),
        ["cut", "drop", pattern @ ..] => Fault::Cut(read_pattern(pattern)?, Cut::Drop),
        ["cut", "hold", pattern @ ..] => Fault::Cut(read_pattern(pattern)?, Cut::Hold),
        ["slow-disk", node] => Fault::SlowDisk(number(node)?),
        ["fail-sync", node] => Fault::FailSync(number(node)?),
        ["fill-disk", node] => Fault::FillDisk(number(node)?),
        ["low-disk", node] => Fault::LowDisk(number(node)?),
        ["fill-files", who] => Fault::FillFiles(who.parse()?),
        ["wipe", node] => Fault::Wipe(number(node)?),
        ["clock-rate", who, ppm] => Fault::ClockRate(who.parse()?, number(ppm)?),
        ["clock-jump", who, ms] => Fault::ClockJump(who.parse()?, number(ms)?),
        ["lag", lag, pattern @ ..] => Fault::Lag(read_pattern(pattern)?, span(lag)?),
        ["transfer", node] => Fault::TransferStoreLeader(number(node)?),
        ["restore", "first"] => Fault::Restore(Saved::First),
        ["restore", "last"] => Fault::Restore(Saved::Last),
        ["revive", node] => Fault::Revive(number(node)?),
        ["upgrade", node] => Fault::Upgrade(number(node)?),
        other => return Err(format!("'{}' is no fault", other.join(" "))),
    })
}

fn read_pattern(words: &[&str]) -> Result<Pattern, String> {
    Ok(match words {
        ["isolate", who] => Pattern::Isolate(who.parse()?),
        ["from-store", who] => Pattern::FromStore(who.parse()?),
        ["halves", side @ ..] => Pattern::Halves(side.iter().map(|node| number(node)).collect::<Result<_, _>>()?),
        ["ring"] => Pattern::Ring,
        ["bridge", node] => Pattern::Bridge(number(node)?),
        ["only", one, other] => Pattern::Only(number(one)?, number(other)?),
        ["one-way", from, to] => Pattern::OneWay(from.parse()?, to.parse()?),
        ["link", one, other] => Pattern::Link(one.parse()?, other.parse()?),
        ["apart", side @ ..] => Pattern::Apart(side.iter().map(|who| who.parse()).collect::<Result<_, _>>()?),
        other => return Err(format!("'{}' is no cut", other.join(" "))),
    })
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number that fits here"))
}

/// What `{:?}` prints of a [`Duration`]: `1.5s`, `20ms`, `700µs`, `5ns`.
fn span(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a time such as 1.5s, 20ms, 700µs");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (value, unit) = text.split_at(digits);
    let nanos_per_unit: u64 = match unit {
        "s" => 1_000_000_000,
        "ms" => 1_000_000,
        "µs" | "us" => 1_000,
        "ns" => 1,
        _ => return Err(wrong()),
    };
    // Exact: what was printed is read back to the nanosecond.
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| wrong())? };
    let mut nanos = whole.checked_mul(nanos_per_unit).ok_or_else(wrong)?;
    let mut unit = nanos_per_unit;
    for digit in fraction.bytes() {
        unit /= 10;
        nanos += u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10).ok_or_else(wrong)?) * unit;
    }
    Ok(Duration::from_nanos(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for seed in 0..200 {
            let plan = Plan::draw(seed);
            assert_eq!(plan.to_string().parse(), Ok(plan));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| text.parse::<Plan>().expect_err(text).to_string();
        assert_eq!(error("seed 1\nat 1s for 1s crash"), "line 2: 'crash' is no fault");
        assert_eq!(error("latency 1 to 2ms"), "line 1: '1' is not a time such as 1.5s, 20ms, 700µs");
        assert_eq!(error("cast node 3\nat 1s for 1s crash node-4"), "line 0: node-4 does not take part");
        assert_eq!(error("behind node-1 node-2"), "line 1: behind: node-2 cannot be behind node-1");
        assert_eq!(error("cast node 3 writer 1\nbehind node-4 writer-1"), "line 0: node-4 does not take part");
        assert_eq!(error("cast node 3\nfounders 4"), "line 0: founders: there are 3 nodes");
        assert_eq!(error("cast wizard 3"), "line 1: no role 'wizard'");
    }
}

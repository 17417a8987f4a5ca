//! How long operations took, over the run. Each dot is one operation as long as there are few; of many, the slow ones and those that
//! did not succeed stay dots, and the rest are two lines: the median and the 99th percentile of each stretch of time.

use super::page::{Page, span};
use super::plot::{self, Plot, WIDTH, end_ns, faults};
use crate::history::{History, Op, Type, f};

/// More operations of one outcome than this are thinned out.
const DOTS: usize = 1500;
/// Stretches of time for the percentiles.
const STRETCHES: usize = 120;

struct Took {
    at_ns: u64,
    ns: u64,
    kind: Type,
    hint: String,
}

/// Whether it is an operation whose length means something: a campaign waits for its turn.
pub(super) fn is_timed(op: &Op<'_>) -> bool {
    !op.invoke.is_nemesis() && op.invoke.f != f::CAMPAIGN && op.end.is_some()
}

pub(super) fn show(page: &mut Page, history: &History) {
    page.heading("Latency");
    let took: Vec<Took> = history
        .ops()
        .filter(is_timed)
        .filter_map(|op| {
            let ns = op.end?.time_ns - op.invoke.time_ns;
            Some(Took {
                at_ns: op.invoke.time_ns,
                ns,
                kind: op.outcome(),
                hint: format!("{} by {}: {}", op.invoke.f, op.invoke.process, span(ns)),
            })
        })
        .collect();
    if took.is_empty() {
        page.dim("No operation was completed.");
        return;
    }
    page.dim("From the invocation to the completion, at the time of the invocation. Campaigns are left out: they wait for their turn.");
    page.picture(&draw(history, &took));
    page.legend([
        ("#2f9e6e", "succeeded".to_owned()),
        ("#145c3c", "median".to_owned()),
        ("#b45309", "99th percentile".to_owned()),
        ("#7a8496", "refused or failed".to_owned()),
        ("#e0a100", "outcome unknown".to_owned()),
    ]);
}

fn draw(history: &History, took: &[Took]) -> String {
    let (top, bottom) = (8.0, 230.0);
    let mut plot = Plot::new(WIDTH, bottom + 22.0, 0, end_ns(history));
    let lowest = took.iter().map(|took| took.ns).min().unwrap_or(1).max(10_000) as f64;
    let highest = (took.iter().map(|took| took.ns).max().unwrap_or(1) as f64).max(lowest * 10.0);
    let (low, high) = (lowest.log10().floor(), highest.log10().ceil());
    let y = |ns: f64| bottom - (ns.log10().max(low) - low) / (high - low) * (bottom - top);
    plot.time_axis(top, bottom);
    plot.shade(&faults(history), top, bottom);
    for power in low as i32..=high as i32 {
        let ns = 10_f64.powi(power);
        plot.line(plot::LEFT, y(ns), WIDTH - plot::RIGHT, y(ns), "stroke=\"#d9dee7\"");
        plot.name(y(ns) + 4.0, &axis(ns));
    }
    for (kind, fill, wanted) in
        [(Type::Ok, "#2f9e6e", true), (Type::Fail, "#7a8496", false), (Type::Info, "#e0a100", false)]
    {
        let mut some: Vec<&Took> = took.iter().filter(|took| took.kind == kind).collect();
        let all = some.len();
        // Of many, the slow ones.
        if all > DOTS {
            some.sort_by_key(|took| std::cmp::Reverse(took.ns));
            some.truncate(DOTS / 2);
        }
        let radius = if all > 400 { 1.6 } else { 2.4 };
        let style = format!("fill=\"{fill}\" fill-opacity=\".6\"");
        for took in some {
            let hint = if all <= 300 || !wanted { took.hint.as_str() } else { "" };
            plot.dot(plot.x(took.at_ns), y(took.ns as f64), radius, &style, hint);
        }
        if kind == Type::Ok && all > 200 {
            percentiles(&mut plot, took, &y, end_ns(history));
        }
    }
    plot.finish()
}

fn percentiles(plot: &mut Plot, took: &[Took], y: &dyn Fn(f64) -> f64, end: u64) {
    let mut stretches: Vec<Vec<u64>> = vec![Vec::new(); STRETCHES];
    for took in took.iter().filter(|took| took.kind == Type::Ok) {
        let at = (took.at_ns as f64 / end as f64 * STRETCHES as f64) as usize;
        stretches[at.min(STRETCHES - 1)].push(took.ns);
    }
    let mut lines: [Vec<(f64, f64)>; 2] = [Vec::new(), Vec::new()];
    for (at, stretch) in stretches.iter_mut().enumerate().filter(|(_, stretch)| !stretch.is_empty()) {
        stretch.sort_unstable();
        let x = plot.x(((at as f64 + 0.5) / STRETCHES as f64 * end as f64) as u64);
        lines[0].push((x, y(percentile(stretch, 50) as f64)));
        lines[1].push((x, y(percentile(stretch, 99) as f64)));
    }
    plot.path(&lines[0], "fill=\"none\" stroke=\"#145c3c\" stroke-width=\"1.8\"");
    plot.path(&lines[1], "fill=\"none\" stroke=\"#b45309\" stroke-width=\"1.8\"");
}

/// Of a sorted list that is not empty: the smallest that at least so many of a hundred do not exceed.
pub(super) fn percentile(sorted: &[u64], of_hundred: usize) -> u64 {
    let at = (sorted.len() * of_hundred).div_ceil(100).max(1) - 1;
    sorted[at.min(sorted.len() - 1)]
}

fn axis(ns: f64) -> String {
    match ns {
        ns if ns >= 1e9 => format!("{:.0} s", ns / 1e9),
        ns if ns >= 1e6 => format!("{:.0} ms", ns / 1e6),
        ns => format!("{:.0} µs", ns / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn percentiles_of_few_are_values_that_were_there() {
        assert_eq!(percentile(&[7], 50), 7);
        assert_eq!(percentile(&[1, 2, 3, 4], 50), 2);
        assert_eq!(percentile(&[1, 2, 3, 4], 99), 4);
        assert_eq!(percentile(&(1..=100).collect::<Vec<_>>(), 99), 99);
    }
}

//! A picture with time from left to right: scales, axes, shaded faults. Plain SVG.

use std::fmt::Write;

use super::page::escaped;
use crate::history::History;
use crate::verdict::Finding;

/// Left of the picture: names of rows.
pub(super) const LEFT: f64 = 128.0;
/// Right of it.
pub(super) const RIGHT: f64 = 14.0;
/// The width of a picture that fits the page.
pub(super) const WIDTH: f64 = 1190.0;

/// A fault while it was in force.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: String,
    pub(super) role: String,
    pub(super) targets: Vec<String>,
    /// When it was tried, and when it was surely in force.
    pub(super) tried_ns: u64,
    pub(super) from_ns: u64,
    /// None: a moment, or until the run ended.
    pub(super) until_ns: Option<u64>,
    /// It surely came into force.
    pub(super) sure: bool,
}

/// All faults of a history, in the order of their beginnings.
pub(super) fn faults(history: &History) -> Vec<Fault> {
    let mut all: Vec<(Option<&str>, Fault)> = Vec::new();
    for op in history.ops().filter(|op| op.invoke.is_nemesis()) {
        let (record, end) = (op.invoke, op.end.unwrap_or(op.invoke));
        let key = record.key.as_deref();
        match record.phase() {
            Some("start") if end.kind != crate::history::Type::Fail => {
                let role = end.value.get("role").and_then(serde_json::Value::as_str).unwrap_or_default();
                let fault = Fault {
                    kind: record.f.clone(),
                    role: role.to_owned(),
                    targets: end.targets().map(str::to_owned).collect(),
                    tried_ns: record.time_ns,
                    from_ns: end.time_ns,
                    until_ns: None,
                    sure: end.kind == crate::history::Type::Ok,
                };
                all.push((key, fault));
            }
            Some("stop") => {
                if let Some((_, fault)) = all.iter_mut().rev().find(|(of, fault)| *of == key && fault.kind == record.f)
                {
                    fault.until_ns = fault.until_ns.or(Some(end.time_ns));
                }
            }
            _ => {}
        }
    }
    all.into_iter().map(|(_, fault)| fault).collect()
}

/// Whether this kind of fault is over as soon as it happened.
pub(super) fn is_moment(kind: &str) -> bool {
    matches!(kind, "kill" | "term" | "transfer-store-leader" | "release-stale")
}

/// The colour of a kind of fault.
pub(super) fn colour(kind: &str) -> &'static str {
    const OTHERS: [&str; 6] = ["#0e7490", "#7c5a1e", "#4d7c0f", "#9d174d", "#334155", "#5b21b6"];
    let has = |part: &str| kind.contains(part);
    match kind {
        _ if has("kill") => "#d0342c",
        _ if has("term") || has("restart") => "#e07b00",
        _ if has("pause") || has("stop") => "#7c3aed",
        _ if has("partition")
            || has("isolate")
            || has("cut")
            || has("one-way")
            || has("bridge")
            || has("ring")
            || has("halves") =>
        {
            "#2563eb"
        }
        _ if has("slow") || has("loss") || has("link") => "#0ea5e9",
        _ if has("clock") => "#0f766e",
        _ if has("disk") || has("power") => "#92400e",
        _ => OTHERS[kind.bytes().map(usize::from).sum::<usize>() % OTHERS.len()],
    }
}

/// Lanes for stretches of time, so that none covers another: for each its lane, and how many there are.
pub(super) fn lanes(stretches: &[(f64, f64)]) -> (Vec<usize>, usize) {
    let mut free: Vec<f64> = Vec::new();
    let lane = |&(from, until): &(f64, f64)| {
        let at = free.iter().position(|free| *free <= from).unwrap_or(free.len());
        if at == free.len() {
            free.push(until);
        } else {
            free[at] = until;
        }
        at
    };
    let lanes = stretches.iter().map(lane).collect();
    (lanes, free.len())
}

/// A picture as it grows.
pub(super) struct Plot {
    svg: String,
    pub(super) width: f64,
    pub(super) height: f64,
    from_ns: u64,
    until_ns: u64,
}

impl Plot {
    pub(super) fn new(width: f64, height: f64, from_ns: u64, until_ns: u64) -> Plot {
        Plot { svg: String::new(), width, height, from_ns, until_ns: until_ns.max(from_ns + 1) }
    }

    /// Where a moment is; what is outside is at the edge.
    pub(super) fn x(&self, ns: u64) -> f64 {
        let inside = ns.clamp(self.from_ns, self.until_ns) - self.from_ns;
        LEFT + (self.width - LEFT - RIGHT) * inside as f64 / (self.until_ns - self.from_ns) as f64
    }

    pub(super) fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, style: &str, hint: &str) {
        let _ = write!(self.svg, "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" {style}");
        self.hint("rect", hint);
    }

    pub(super) fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, style: &str) {
        let _ = write!(self.svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, style: &str, hint: &str) {
        let _ = write!(self.svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\" {style}");
        self.hint("circle", hint);
    }

    fn hint(&mut self, tag: &str, hint: &str) {
        if hint.is_empty() {
            self.svg.push_str("/>");
        } else {
            let _ = write!(self.svg, "><title>{}</title></{tag}>", escaped(hint));
        }
    }

    pub(super) fn text(&mut self, x: f64, y: f64, style: &str, text: &str) {
        let _ = write!(self.svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(text));
    }

    /// The name of a row, at its left.
    pub(super) fn name(&mut self, y: f64, text: &str) {
        self.text(LEFT - 8.0, y, "text-anchor=\"end\"", &super::page::cut(text, 20));
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], style: &str) {
        if points.is_empty() {
            return;
        }
        self.svg.push_str("<path d=\"M");
        for (at, (x, y)) in points.iter().enumerate() {
            let _ = write!(self.svg, "{}{x:.1} {y:.1}", if at > 0 { "L" } else { "" });
        }
        let _ = write!(self.svg, "\" {style}/>");
    }

    /// Vertical lines and times below.
    pub(super) fn time_axis(&mut self, top: f64, bottom: f64) {
        let step = step((self.until_ns - self.from_ns) as f64 / 1e9, (self.width - LEFT) / 90.0);
        let mut at = (self.from_ns as f64 / 1e9 / step).ceil() * step;
        while at * 1e9 <= self.until_ns as f64 {
            let x = self.x((at * 1e9) as u64);
            self.line(x, top, x, bottom, "stroke=\"#e6eaf1\"");
            let digits = if step < 0.001 {
                4
            } else if step < 0.01 {
                3
            } else if step < 0.1 {
                2
            } else if step < 1.0 {
                1
            } else {
                0
            };
            self.text(x, bottom + 13.0, "text-anchor=\"middle\" class=\"dim small\"", &format!("{at:.digits$} s"));
            at += step;
        }
    }

    /// Faults as bands behind everything, from top to bottom.
    pub(super) fn shade(&mut self, faults: &[Fault], top: f64, bottom: f64) {
        /// More moments than this would cover what is drawn over them.
        const MOMENTS: usize = 160;
        let (first, last) = (self.from_ns, self.until_ns);
        let seen = |fault: &&Fault| fault.tried_ns <= last && fault.until_ns.is_none_or(|until| until >= first);
        let moments = faults.iter().filter(seen).filter(|fault| is_moment(&fault.kind)).count();
        for fault in faults.iter().filter(seen) {
            let (from, moment) = (self.x(fault.tried_ns), is_moment(&fault.kind));
            let until = fault.until_ns.unwrap_or(if moment { fault.from_ns } else { self.until_ns });
            if moment && moments > MOMENTS {
                continue;
            }
            if moment {
                let style = format!("stroke=\"{}\" stroke-opacity=\".35\"", colour(&fault.kind));
                self.line(from, top, from, bottom, &style);
            } else {
                let style = format!("fill=\"{}\" fill-opacity=\".10\"", colour(&fault.kind));
                self.rect(from, top, (self.x(until) - from).max(1.0), bottom - top, &style, "");
            }
        }
    }

    pub(super) fn finish(self) -> String {
        let Plot { svg, width, height, .. } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" viewBox=\"0 0 {width:.0} {height:.0}\">{svg}</svg>"
        )
    }
}

/// A round step, so that about so many fit.
pub(super) fn step(span: f64, wanted: f64) -> f64 {
    let rough = (span / wanted.max(1.0)).max(1e-5);
    let power = 10_f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(10.0 * power)
}

/// When the history ends.
pub(super) fn end_ns(history: &History) -> u64 {
    history.records().last().map_or(1, |last| last.time_ns.max(1))
}

/// The moments that counter-examples stand on.
pub(super) fn marked(history: &History, findings: &[Finding]) -> Vec<u64> {
    let lines = findings.iter().flat_map(|finding| &finding.lines);
    lines.map(|&line| history.records()[line].time_ns).collect()
}

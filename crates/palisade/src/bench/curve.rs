//! The memory and the data folder of each node of our own while something is measured, once a second, and a picture of both: what
//! grows without an end shows there. It judges nothing.

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use palisade_world::{Task, World};
use serde_json::{Value, json};

use super::nodes::Nodes;

/// Samples that are kept; beyond it every other one goes, and the next ones are taken half as often.
const MAX_SAMPLES: usize = 1_000;

/// What was seen at one time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sample {
    /// Calls that were answered.
    done: u64,
    /// Of each node, resident.
    memory_mib: Vec<f64>,
    /// Of each node's data folder, as the file system counts it.
    disk_mib: Vec<f64>,
}

/// Samples as they are taken. They end with this.
pub(super) struct Curve {
    samples: Arc<Mutex<Vec<Sample>>>,
    _task: Task<()>,
}

impl Curve {
    /// Begins; `done` says how many calls were answered.
    pub(super) fn begin(nodes: &Nodes, done: impl Fn() -> u64 + Send + 'static, world: &World) -> Curve {
        let samples: Arc<Mutex<Vec<Sample>>> = Arc::default();
        let places = nodes.places();
        let (taken, clock) = (Arc::clone(&samples), world.clone());
        let task = world.spawn("bench-curve", async move {
            let mut every = Duration::from_secs(1);
            loop {
                let places = places.clone();
                let looked = clock.blocking("looking at nodes", move || {
                    places.iter().map(|place| (memory_mib(place.process), folder_mib(&place.data))).unzip()
                });
                if let Ok((memory_mib, disk_mib)) = looked.await {
                    let mut samples = taken.lock().unwrap_or_else(PoisonError::into_inner);
                    samples.push(Sample { done: done(), memory_mib, disk_mib });
                    if samples.len() > MAX_SAMPLES {
                        let mut kept = false;
                        samples.retain(|_| {
                            kept = !kept;
                            kept
                        });
                        every *= 2;
                    }
                }
                clock.sleep(every).await;
            }
        });
        Curve { samples, _task: task }
    }

    /// What was seen so far.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn memory_mib(process: u32) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.and_then(|rest| rest.trim().split(' ').next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Files come and go meanwhile: what is gone counts for nothing.
fn folder_mib(folder: &Path) -> f64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0.0 };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_mib(&entry.path()),
        Ok(metadata) => metadata.blocks() as f64 * 512.0 / f64::from(1 << 20),
        Err(_) => 0.0,
    };
    entries.flatten().map(size).sum()
}

/// The samples at a tenth, at half and at the end, and the largest, of each node.
pub(super) fn document(samples: &[Sample]) -> Value {
    let at = |part: f64| samples.get(((samples.len() as f64 - 1.0) * part).max(0.0) as usize);
    let row = |sample: Option<&Sample>| match sample {
        None => Value::Null,
        Some(it) => {
            json!({ "done": it.done, "memory_mib": rounded(&it.memory_mib), "disk_mib": rounded(&it.disk_mib) })
        }
    };
    let largest = |of: fn(&Sample) -> &Vec<f64>| {
        let nodes = samples.first().map_or(0, |sample| of(sample).len());
        let most = |node: usize| samples.iter().map(|sample| of(sample)[node]).fold(0.0, f64::max);
        rounded(&(0..nodes).map(most).collect::<Vec<_>>())
    };
    json!({
        "samples": samples.len(), "at_a_tenth": row(at(0.1)), "at_half": row(at(0.5)), "at_the_end": row(at(1.0)),
        "most_memory_mib": largest(|it| &it.memory_mib), "most_disk_mib": largest(|it| &it.disk_mib),
    })
}

fn rounded(all: &[f64]) -> Vec<f64> {
    all.iter().map(|it| (it * 10.0).round() / 10.0).collect()
}

const WIDTH: f64 = 860.0;
const LEFT: f64 = 64.0;
const PANEL: f64 = 220.0;
const GAP: f64 = 64.0;
const COLORS: [&str; 5] = ["#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#7f7f7f"];

/// A picture: memory above, data folders below, against the calls that were answered.
pub(super) fn svg(title: &str, samples: &[Sample]) -> String {
    let height = 2.0 * (PANEL + GAP) + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    panel(&mut svg, 50.0, "memory of each node, MiB", samples, |sample| &sample.memory_mib);
    panel(&mut svg, 50.0 + PANEL + GAP, "data folder of each node, MiB", samples, |sample| &sample.disk_mib);
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: f64, what: &str, samples: &[Sample], of: fn(&Sample) -> &Vec<f64>) {
    let right = WIDTH - 20.0;
    let done = samples.iter().map(|sample| sample.done).max().unwrap_or(0).max(1) as f64;
    let most = samples.iter().flat_map(of).copied().fold(1.0, f64::max);
    let step = tick(most);
    let top_value = (most / step).ceil() * step;
    let x = |sample: &Sample| LEFT + (right - LEFT) * sample.done as f64 / done;
    let y = |value: f64| top + PANEL * (1.0 - value / top_value);
    let write = "writing to a string does not fail";
    let mut value = 0.0;
    while value <= top_value + step / 2.0 {
        let (at, label) = (y(value), LEFT - 8.0);
        writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>")
            .expect(write);
        writeln!(svg, "<text x=\"{label}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>", at + 4.0).expect(write);
        value += step;
    }
    writeln!(svg, "<text x=\"{LEFT}\" y=\"{:.1}\">{what}</text>", top - 8.0).expect(write);
    for tenth in [0.0, 2.0, 4.0, 6.0, 8.0, 10.0] {
        let at = LEFT + (right - LEFT) * tenth / 10.0;
        let calls = done * tenth / 10.0 / 1e6;
        writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{calls:.1} M</text>", top + PANEL + 18.0)
            .expect(write);
    }
    let nodes = samples.first().map_or(0, |sample| of(sample).len());
    for node in 0..nodes {
        let points: Vec<String> =
            samples.iter().map(|sample| format!("{:.1},{:.1}", x(sample), y(of(sample)[node]))).collect();
        let (color, legend) = (COLORS[node % COLORS.len()], LEFT + 240.0 + 90.0 * node as f64);
        writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{color}\" stroke-width=\"1.5\" points=\"{}\"/>",
            points.join(" ")
        )
        .expect(write);
        writeln!(svg, "<text x=\"{legend}\" y=\"{:.1}\" fill=\"{color}\">node {}</text>", top - 8.0, node + 1)
            .expect(write);
    }
}

/// A round number of which about five make the whole.
fn tick(most: f64) -> f64 {
    let raw = most / 5.0;
    let power = 10f64.powf(raw.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= raw).unwrap_or(10.0);
    round * power
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_a_line_for_each_node_in_each_panel() {
        let sample = |done: u64| Sample { done, memory_mib: vec![done as f64, 40.0], disk_mib: vec![10.0, 7.5] };
        let samples: Vec<Sample> = (0..=10).map(sample).collect();
        let picture = svg("a < b", &samples);
        assert_eq!(picture.matches("<polyline").count(), 4);
        assert!(picture.contains("a &lt; b") && picture.ends_with("</svg>\n"));
        let document = document(&samples);
        assert_eq!(document["at_half"]["memory_mib"], json!([5.0, 40.0]));
        assert_eq!(document["most_memory_mib"], json!([10.0, 40.0]));
        assert_eq!(document["most_disk_mib"], json!([10.0, 7.5]));
    }

    #[test]
    fn ticks_are_round() {
        assert_eq!([tick(1.0), tick(37.0), tick(400.0), tick(499.0)], [0.2, 10.0, 100.0, 100.0]);
    }
}

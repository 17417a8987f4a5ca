//! The page that Prometheus reads: its text format, version 0.0.4.
//!
//! Keeps true: all samples of one name stand together under one `HELP` and one `TYPE`; a name stands on a page once, and so
//! does a set of labels; what is in a label or a help text cannot break a line.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::{Counter, Counters, Histogram, Labelled};

/// What a number is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It only goes up. Its name ends with `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
}

/// A page that is being written.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    names: BTreeSet<&'static str>,
}

impl Page {
    /// The type of its content, for HTTP.
    pub const CONTENT_TYPE: &'static str = "text/plain; version=0.0.4; charset=utf-8";

    /// An empty page.
    pub fn new() -> Page {
        Page::default()
    }

    /// The whole page.
    pub fn into_text(self) -> String {
        self.text
    }

    /// A counter without labels.
    pub fn counter(&mut self, name: &'static str, help: &str, counter: &Counter) {
        self.count(name, help, counter.get());
    }

    /// As [`Page::counter`], of a number that somebody else counts.
    pub fn count(&mut self, name: &'static str, help: &str, count: u64) {
        self.family(name, Kind::Counter, help).sample(&[], count);
    }

    /// Counters, one for each value of a label.
    pub fn counters<L: Labelled>(&mut self, name: &'static str, help: &str, label: &str, counters: &Counters<L>) {
        let mut family = self.family(name, Kind::Counter, help);
        for value in L::ALL {
            family.sample(&[(label, value.label())], counters.get(*value));
        }
    }

    /// A gauge without labels.
    pub fn gauge(&mut self, name: &'static str, help: &str, value: impl Number) {
        self.family(name, Kind::Gauge, help).sample(&[], value);
    }

    /// A histogram of seconds. Its name ends with `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &str, histogram: &Histogram) {
        self.head(name, "histogram", help);
        let mut all = 0;
        for (bound, below) in histogram.cumulated() {
            let _ = write!(self.text, "{name}_bucket{{le=\"");
            bound.write(&mut self.text);
            let _ = writeln!(self.text, "\"}} {below}");
            all = below;
        }
        let _ = writeln!(self.text, "{name}_sum {}\n{name}_count {all}", histogram.seconds());
    }

    /// Begins the samples of one name.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => {
                assert!(name.ends_with("_total"), "{name}: the name of a counter ends with _total");
                "counter"
            }
            Kind::Gauge => "gauge",
        };
        self.head(name, kind, help);
        Family { name, text: &mut self.text, told: BTreeSet::new() }
    }

    fn head(&mut self, name: &'static str, kind: &str, help: &str) {
        let is_name = |name: &str| {
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':';
            name.bytes().all(allowed) && !name.starts_with(|first: char| first.is_ascii_digit())
        };
        assert!(is_name(name), "{name}: not a name");
        assert!(self.names.insert(name), "{name} stands on the page twice");
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }
}

/// The samples of one name. Two with the same labels are one: the first counts.
#[derive(Debug)]
pub struct Family<'a> {
    name: &'static str,
    text: &'a mut String,
    told: BTreeSet<String>,
}

impl Family<'_> {
    /// A sample. Values of labels may be any text; names of labels are the code's.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Number) {
        let mut set = String::new();
        for (name, value) in labels {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let comma = if set.is_empty() { "" } else { "," };
            let _ = write!(set, "{comma}{name}=\"{value}\"");
        }
        if !self.told.insert(set.clone()) {
            return;
        }
        self.text.push_str(self.name);
        if !set.is_empty() {
            let _ = write!(self.text, "{{{set}}}");
        }
        self.text.push(' ');
        value.write(self.text);
        self.text.push('\n');
    }
}

/// What a sample can be.
pub trait Number: sealed::Sealed {
    /// As the format wants it.
    #[doc(hidden)]
    fn write(self, text: &mut String);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! number {
    ($($kind:ty)*) => {$(
        impl sealed::Sealed for $kind {}
        impl Number for $kind {
            fn write(self, text: &mut String) {
                let _ = write!(text, "{self}");
            }
        }
    )*};
}

number!(u32 u64 usize i64);

impl sealed::Sealed for bool {}
impl Number for bool {
    fn write(self, text: &mut String) {
        text.push(if self { '1' } else { '0' });
    }
}

impl sealed::Sealed for f64 {}
impl Number for f64 {
    fn write(self, text: &mut String) {
        if self.is_infinite() {
            text.push_str(if self > 0.0 { "+Inf" } else { "-Inf" });
        } else if self.is_nan() {
            text.push_str("NaN");
        } else {
            let _ = write!(text, "{self}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_page_is_in_the_text_format() {
        let mut page = Page::new();
        let asked = Counter::new();
        asked.add(3);
        page.counter("asked_total", "How often\nsomebody asked.", &asked);
        page.gauge("free_bytes", "What is left.", 12.5);
        let mut family = page.family("lag", Kind::Gauge, "How far behind.");
        family.sample(&[("follower", "2")], 7_u64);
        family.sample(&[("follower", "a\"b\\c\nd")], true);
        family.sample(&[("follower", "2")], 8_u64);
        let expected = "# HELP asked_total How often\\nsomebody asked.\n# TYPE asked_total counter\nasked_total 3\n\
# HELP free_bytes What is left.\n# TYPE free_bytes gauge\nfree_bytes 12.5\n\
# HELP lag How far behind.\n# TYPE lag gauge\nlag{follower=\"2\"} 7\nlag{follower=\"a\\\"b\\\\c\\nd\"} 1\n";
        assert_eq!(page.into_text(), expected);
    }

    #[test]
    fn a_histogram_ends_with_all_its_sum_and_its_count() {
        let histogram = Histogram::new();
        histogram.observe(Duration::from_millis(3));
        let mut page = Page::new();
        page.histogram("took_seconds", "How long it took.", &histogram);
        let text = page.into_text();
        assert!(text.contains("took_seconds_bucket{le=\"0.0025\"} 0\ntook_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
        assert!(
            text.ends_with("took_seconds_bucket{le=\"+Inf\"} 1\ntook_seconds_sum 0.003\ntook_seconds_count 1\n"),
            "{text}"
        );
    }

    #[test]
    #[should_panic(expected = "stands on the page twice")]
    fn a_name_stands_on_a_page_once() {
        let mut page = Page::new();
        page.gauge("a", "A.", 1_u64);
        page.gauge("a", "A.", 1_u64);
    }
}

//! HTML, escaped. The one style sheet of the page is here.

use std::fmt::{Display, Write};

/// The page as it grows.
pub(super) struct Page {
    html: String,
}

const STYLE: &str = "
:root{--ink:#1c2430;--dim:#667085;--line:#d9dee7;--ok:#1a7f4b;--bad:#c0271d;--maybe:#9a6700;--soft:#f6f8fb}
*{box-sizing:border-box}
body{font:14px/1.45 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;color:var(--ink);margin:0;background:#fff}
main{max-width:1240px;margin:0 auto;padding:18px 24px 60px}
h1{font-size:21px;margin:0 0 2px}h2{font-size:16px;margin:34px 0 8px;padding-top:12px;border-top:1px solid var(--line)}
h3{font-size:14px;margin:18px 0 6px}p{margin:6px 0}.dim{color:var(--dim)}code,.mono{font:12px/1.4 ui-monospace,'DejaVu Sans Mono',monospace}
.banner{border-radius:8px;padding:14px 18px;margin:0 0 10px;color:#fff;background:var(--maybe)}
.banner.pass{background:var(--ok)}.banner.violation{background:var(--bad)}
.banner b{font-size:22px;letter-spacing:.02em}.banner p{margin:2px 0 0}
dl.facts{display:grid;grid-template-columns:repeat(auto-fill,minmax(230px,1fr));gap:4px 22px;margin:10px 0 0}
dl.facts div{display:flex;gap:8px}dl.facts dt{color:var(--dim)}dl.facts dd{margin:0;font-weight:600;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%;margin:6px 0}th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--dim);font-weight:600;font-size:12px}td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.tag{display:inline-block;min-width:78px;text-align:center;border-radius:4px;padding:0 7px;font-size:12px;font-weight:700;color:#fff;background:#8a94a6}
.tag.pass{background:var(--ok)}.tag.violation{background:var(--bad)}.tag.unknown{background:var(--maybe)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:6px;margin:6px 0;background:#fff}svg{display:block}
svg text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:var(--ink)}svg text.dim{fill:var(--dim)}svg text.small{font-size:10px}
tr.hit td{background:#fdeceb}.example{border-left:4px solid var(--bad);padding-left:14px}.example.unknown{border-color:var(--maybe)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:12px;color:var(--dim);margin:4px 0}.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:5px;vertical-align:-2px}
details summary{cursor:pointer;color:var(--dim)}
";

impl Page {
    pub(super) fn new(title: &str) -> Page {
        let mut page = Page { html: String::with_capacity(256 * 1024) };
        page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
        page.text(title);
        page.raw("</title><meta name=\"viewport\" content=\"width=device-width\"><style>");
        page.raw(STYLE);
        page.raw("</style></head><body><main>");
        page
    }

    /// Markup of our own.
    pub(super) fn raw(&mut self, html: &str) {
        self.html.push_str(html);
    }

    /// What came from a history: never markup.
    pub(super) fn text(&mut self, text: &str) {
        self.html.push_str(&escaped(text));
    }

    /// A heading of a part.
    pub(super) fn heading(&mut self, text: &str) {
        self.raw("<h2>");
        self.text(text);
        self.raw("</h2>");
    }

    /// A paragraph in grey.
    pub(super) fn dim(&mut self, text: &str) {
        self.raw("<p class=\"dim\">");
        self.text(text);
        self.raw("</p>");
    }

    /// A table. A column whose heading begins with `#` holds numbers.
    pub(super) fn table<R: AsRef<[String]>>(&mut self, heads: &[&str], rows: impl IntoIterator<Item = R>) {
        let class = |head: &str| if head.starts_with('#') { " class=\"n\"" } else { "" };
        self.raw("<table><tr>");
        for head in heads {
            let _ = write!(self.html, "<th{}>{}</th>", class(head), escaped(head.trim_start_matches('#')));
        }
        self.raw("</tr>");
        for row in rows {
            self.raw("<tr>");
            for (head, cell) in heads.iter().zip(row.as_ref()) {
                let _ = write!(self.html, "<td{}>{}</td>", class(head), escaped(cell));
            }
            self.raw("</tr>");
        }
        self.raw("</table>");
    }

    /// A picture, in a frame that scrolls if it is wider than the page.
    pub(super) fn picture(&mut self, svg: &str) {
        self.raw("<div class=\"scroll\">");
        self.raw(svg);
        self.raw("</div>");
    }

    /// What the colours mean.
    pub(super) fn legend<'a>(&mut self, entries: impl IntoIterator<Item = (&'a str, String)>) {
        self.raw("<div class=\"legend\">");
        for (colour, words) in entries {
            let _ = write!(self.html, "<span><i style=\"background:{colour}\"></i>{}</span>", escaped(&words));
        }
        self.raw("</div>");
    }

    pub(super) fn finish(mut self) -> String {
        self.raw("</main></body></html>\n");
        self.html
    }
}

/// For text between tags and in quoted attributes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            other => out.push(other),
        }
    }
    out
}

/// A text that is not longer than so many letters.
pub(super) fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(letters).collect::<String>())
    }
}

/// A duration for people, from nanoseconds.
pub(super) fn span(ns: u64) -> String {
    let ms = ns as f64 / 1e6;
    match ns {
        0..10_000_000 => format!("{ms:.2} ms"),
        10_000_000..1_000_000_000 => format!("{ms:.0} ms"),
        _ => format!("{:.2} s", ms / 1e3),
    }
}

/// A moment for people: seconds since the run began.
pub(super) fn moment(ns: u64) -> String {
    format!("{:.4} s", ns as f64 / 1e9)
}

/// Joins what can be shown.
pub(super) fn joined(items: impl IntoIterator<Item = impl Display>, between: &str) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(between)
}

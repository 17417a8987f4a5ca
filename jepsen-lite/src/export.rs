//! A history as EDN, one operation a line, as Jepsen's own checkers read it (HISTORY.md, "EDN").
//!
//! It changes names, never outcomes: processes become numbers, values of registers become `[key value]` as `jepsen.independent` has
//! them, transactions become Elle's. What was only seen, and faults, are `:info` under a keyword, which those checkers pass over.

use std::collections::HashMap;
use std::io::{self, Write};

use serde_json::Value;

use crate::history::{History, Record, Type, f};

/// Writes the whole history.
///
/// # Errors
/// What the writer says.
pub fn edn(history: &History, out: &mut impl Write) -> io::Result<()> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut line = String::new();
    for (index, record) in history.records().iter().enumerate() {
        line.clear();
        let seen = record.is_event() || record.is_nemesis();
        let kind = match record.kind {
            _ if seen => "info",
            Type::Invoke => "invoke",
            Type::Ok => "ok",
            Type::Fail => "fail",
            Type::Info => "info",
        };
        let process = if seen {
            format!(":{}", keyword(&record.process))
        } else {
            let next = numbers.len();
            numbers.entry(&record.process).or_insert(next).to_string()
        };
        line.push_str(&format!(
            "{{:index {index}, :time {}, :process {process}, :type :{kind}, :f :{}",
            record.time_ns,
            keyword(&record.f)
        ));
        line.push_str(", :value ");
        operand(record, seen, &mut line);
        details(record, seen, &mut line);
        line.push_str("}\n");
        out.write_all(line.as_bytes())?;
    }
    out.flush()
}

/// What the operation is about, in the form that Jepsen's models expect.
fn operand(record: &Record, seen: bool, out: &mut String) {
    let key = record.key.as_deref();
    match record.f.as_str() {
        f::TXN => transaction(&record.value, out),
        f::READ | f::WRITE | f::CAS | f::DELETE if !seen => {
            out.push('[');
            text(key.unwrap_or_default(), out);
            out.push(' ');
            value(&record.value, out);
            out.push(']');
        }
        _ => value(&record.value, out),
    }
}

fn transaction(parts: &Value, out: &mut String) {
    out.push('[');
    for (at, part) in parts.as_array().into_iter().flatten().enumerate() {
        if at > 0 {
            out.push(' ');
        }
        out.push_str(if part[0] == "append" { "[:append " } else { "[:r " });
        value(&part[1], out);
        out.push(' ');
        value(&part[2], out);
        out.push(']');
    }
    out.push(']');
}

fn details(record: &Record, seen: bool, out: &mut String) {
    let mut field = |name: &str, text_of: &dyn Fn(&mut String)| {
        out.push_str(", :");
        out.push_str(name);
        out.push(' ');
        text_of(out);
    };
    if !seen {
        field("name", &|out| text(&record.process, out));
    }
    let number = |number: u64| move |out: &mut String| out.push_str(&number.to_string());
    let words = |words: &'static str, of: &Option<String>| of.clone().map(|of| (words, of));
    for (name, of) in [
        words("key", &record.key),
        words("error", &record.error),
        words("election", &record.election),
        words("node", &record.node),
    ]
    .into_iter()
    .flatten()
    {
        field(name, &|out| text(&of, out));
    }
    let numbers = [
        ("token", record.token),
        ("session", record.session),
        ("seq", record.seq),
        ("revision", record.revision),
        ("deadline-ns", record.deadline_ns),
    ];
    for (name, of) in numbers.into_iter().filter_map(|(name, of)| Some((name, of?))) {
        field(name, &number(of));
    }
}

/// JSON as EDN. Keys of maps stay texts.
fn value(json: &Value, out: &mut String) {
    match json {
        Value::Null => out.push_str("nil"),
        Value::Bool(_) | Value::Number(_) => out.push_str(&json.to_string()),
        Value::String(words) => text(words, out),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(' ');
                }
                value(item, out);
            }
            out.push(']');
        }
        Value::Object(fields) => {
            out.push('{');
            for (at, (name, item)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                text(name, out);
                out.push(' ');
                value(item, out);
            }
            out.push('}');
        }
    }
}

/// A text in quotes, with the escapes that EDN knows.
fn text(words: &str, out: &mut String) {
    out.push('"');
    for letter in words.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            other => out.push(other),
        }
    }
    out.push('"');
}

/// A name as it may stand after a colon.
fn keyword(name: &str) -> String {
    let fits =
        |letter: char| if letter.is_ascii_alphanumeric() || letter == '.' || letter == '-' { letter } else { '-' };
    let fitting: String = name.chars().map(fits).collect();
    if fitting.starts_with(|first: char| first.is_ascii_digit()) { format!("p{fitting}") } else { fitting }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_as_jepsen_reads_it() {
        let text = r#"
{"process":"w1","type":"invoke","f":"cas","key":"r\"1","value":[null,"b"],"election":"e","token":9223372036854775807,"time_ns":5}
{"process":"nemesis","type":"invoke","f":"kill","key":"k1","value":{"phase":"start","targets":["n1"]},"time_ns":6}
{"process":"w1","type":"info","f":"cas","key":"r\"1","value":[null,"b"],"error":"timeout","time_ns":7}
{"process":"9","type":"invoke","f":"txn","value":[["append","l",1],["r","l",null]],"time_ns":8}
{"process":"9","type":"ok","f":"txn","value":[["append","l",1],["r","l",[1]]],"seq":4,"time_ns":9}
{"process":"ob 1","type":"ok","f":"observe","election":"e","value":{"event":"vacant"},"time_ns":10}
"#;
        let history = crate::history::read_lines(text.as_bytes()).unwrap();
        let mut out = Vec::new();
        edn(&history, &mut out).unwrap();
        let expected = r#"{:index 0, :time 5, :process 0, :type :invoke, :f :cas, :value ["r\"1" [nil "b"]], :name "w1", :key "r\"1", :election "e", :token 9223372036854775807}
{:index 1, :time 6, :process :nemesis, :type :info, :f :kill, :value {"phase" "start", "targets" ["n1"]}, :key "k1"}
{:index 2, :time 7, :process 0, :type :info, :f :cas, :value ["r\"1" [nil "b"]], :name "w1", :key "r\"1", :error "timeout"}
{:index 3, :time 8, :process 1, :type :invoke, :f :txn, :value [[:append "l" 1] [:r "l" nil]], :name "9"}
{:index 4, :time 9, :process 1, :type :ok, :f :txn, :value [[:append "l" 1] [:r "l" [1]]], :name "9", :seq 4}
{:index 5, :time 10, :process :ob-1, :type :info, :f :observe, :value {"event" "vacant"}, :election "e"}
"#;
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

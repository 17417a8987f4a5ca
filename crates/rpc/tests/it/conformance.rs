//! The table of conformance: every line of Flink's behaviours, in our words, has a test that carries its id, or a reason why it
//! cannot apply. `cargo test -p palisade-rpc --test it -- conformance --nocapture` prints it.

use std::collections::BTreeMap;
use std::process::Command;

/// Id, what is promised, and `test` or the reason why there is none; separated by tabs.
const TABLE: &str = include_str!("../../CONFORMANCE.tsv");

/// How many lines each group has.
const GROUPS: [(char, u32); 6] = [('A', 34), ('B', 11), ('C', 13), ('D', 14), ('G', 13), ('H', 12)];

struct Line {
    sentence: &'static str,
    /// `None`: a test carries the id.
    reason: Option<&'static str>,
}

fn table() -> BTreeMap<&'static str, Line> {
    let mut lines = BTreeMap::new();
    for text in TABLE.lines().filter(|text| !text.is_empty() && !text.starts_with('#')) {
        let fields: Vec<&str> = text.split('\t').collect();
        let [id, sentence, how] = fields[..] else { panic!("three fields, separated by tabs: {text}") };
        let reason = match how.strip_prefix("none: ") {
            Some(reason) => Some(reason),
            None if how == "test" => None,
            None => panic!("{id}: neither 'test' nor 'none: reason': {how}"),
        };
        assert!(!sentence.is_empty() && reason != Some(""), "{id} says nothing");
        assert!(lines.insert(id, Line { sentence, reason }).is_none(), "{id} is there twice");
    }
    lines
}

/// The tests of this very binary, as it lists them: what is named exists.
fn tests() -> Vec<String> {
    let listed = Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
    let text = String::from_utf8(listed.stdout).unwrap();
    let tests: Vec<String> = text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect();
    assert!(tests.iter().any(|test| test.ends_with("every_line_has_a_test_or_a_reason")), "{tests:?}");
    tests
}

/// Whether a test's name begins with ids, this one among them: `a01_a04_a_call_before_..`.
fn carries(test: &str, id: &str) -> bool {
    let name = test.rsplit("::").next().unwrap_or(test);
    let is_id = |word: &&str| word.len() == 3 && word.as_bytes()[1..].iter().all(u8::is_ascii_digit);
    name.split('_').take_while(is_id).any(|word| word.eq_ignore_ascii_case(id))
}

#[test]
fn every_line_has_a_test_or_a_reason() {
    let (table, tests) = (table(), tests());
    let mut wrong = Vec::new();
    let (mut tested, mut reasoned) = (0, 0);
    for (group, count) in GROUPS {
        for number in 1..=count {
            let id = format!("{group}{number:02}");
            let Some(Line { sentence, reason }) = table.get(&*id) else {
                wrong.push(format!("{id} has no line"));
                continue;
            };
            let carrying: Vec<&String> = tests.iter().filter(|test| carries(test, &id)).collect();
            println!("{id}  {sentence}");
            match (reason, carrying.as_slice()) {
                (None, []) => wrong.push(format!("{id} has no test that carries its id")),
                (None, _) => tested += 1,
                (Some(reason), []) => {
                    println!("     cannot apply: {reason}");
                    reasoned += 1;
                }
                (Some(_), some) => wrong.push(format!("{id} has a reason to have no test, and has {some:?}")),
            }
            carrying.iter().for_each(|test| println!("     {test}"));
        }
    }
    println!("{tested} lines have tests, {reasoned} cannot apply");
    let lines: u32 = GROUPS.iter().map(|(_, count)| count).sum();
    if table.len() as u32 != lines {
        wrong.push(format!("{} lines in the table, there are {lines}", table.len()));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn only_leading_ids_count() {
    assert!(carries("life::a01_a04_a_call_before_the_start", "A04"));
    assert!(!carries("life::a_call_before_a04_the_start", "A04"));
    assert!(!carries("life::a_call", "A04"));
}

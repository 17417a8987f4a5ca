//! The demo, with a small input.

use serde_json::Value;

use crate::harness::palisade;

#[test]
fn the_demo_survives_its_kills_with_an_exact_result() {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("input");
    std::fs::create_dir_all(input.join("deeper")).unwrap();
    std::fs::write(input.join("one.txt"), "to be or not to be\nthat is the question ".repeat(400)).unwrap();
    std::fs::write(
        input.join("deeper/two.bin"),
        [b"\xff\xfe binary\x0bwords\x00too \x85 ".to_vec(), b"end".to_vec()].concat(),
    )
    .unwrap();
    std::fs::write(input.join("empty"), "").unwrap();
    let keep = dir.path().join("keep");
    let output = palisade()
        .args([
            "demo",
            "--kills",
            "1",
            "--output",
            "json",
            "--input",
            input.to_str().unwrap(),
            "--keep",
            keep.to_str().unwrap(),
        ])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no document: {stderr}"));
    assert!(output.status.success(), "{document}\n{stderr}");
    assert_eq!(document["ok"], true);
    assert_eq!(document["words"]["counted"], document["words"]["expected"]);
    assert_eq!(
        document["words"]["expected"],
        400 * 10 + 5,
        "a word is a run of bytes other than white space, per file"
    );
    assert_eq!(document["words"]["mismatched"], 0);
    assert_eq!(document["stale_accepted"], 0);
    assert_eq!(document["stale_sent"], document["stale_rejected"]);
    assert!(document["stale_held"].as_u64() > Some(0), "no leader's own message was held and let go: {document}");
    assert!(document["stale_sent"].as_u64() > document["stale_held"].as_u64(), "no plain call was made: {document}");
    let kills = document["kills"].as_array().unwrap();
    assert_eq!(kills.iter().filter(|kill| kill["what"] == "jobmanager").count(), 1);
    assert_eq!(kills.iter().filter(|kill| kill["what"] == "store").count(), 1);
    assert!(
        kills
            .iter()
            .filter(|kill| kill["what"] == "jobmanager")
            .all(|kill| kill["token_after"].as_u64() > kill["token_before"].as_u64())
    );
}

#[test]
fn an_empty_input_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let output = palisade().args(["demo", "--input", dir.path().to_str().unwrap()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

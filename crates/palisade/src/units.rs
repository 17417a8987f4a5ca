//! Durations and addresses as people write them: `200ms`, `10s`, `5m`, `1h`; `HOST:PORT`.

use std::time::Duration;

/// Reads a duration; the error names what is allowed.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is not a duration (expected a number with ms, s, m or h, such as 200ms or 10s)");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(ms).map(Duration::from_millis).ok_or_else(wrong)
}

/// Reads an address; the error says what is wrong with it.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let checked = palisade_world::grpc::check_address(text);
    checked.map(|()| text.to_owned()).map_err(|bad| format!("HOST:PORT; {}", bad.why))
}

/// Whole milliseconds, for `…_ms` fields.
pub(crate) fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds with microsecond precision, for measured figures.
pub(crate) fn ms_f(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "10", "s", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}

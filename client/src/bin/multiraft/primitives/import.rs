//! `multiraft map import`

use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt, try_unfold};
use multiraft_client::Map;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};

use crate::report::{Failure, Report};

/// Entries that are written at the same time.
const WRITES_MAX: usize = 64;

/// Writes all entries, or says which line was the first that could not be written.
pub async fn run(map: &Map) -> Result<Report, Failure> {
    let lines = BufReader::new(tokio::io::stdin()).lines();
    let lines = try_unfold((lines, 1), async |(mut lines, number): (Lines<_>, u64)| {
        let line = lines.next_line().await;
        let line = line.map_err(|error| Failure::usage(format!("line {number}: {error}")))?;
        Ok::<_, Failure>(line.map(|line| ((number, line), (lines, number + 1))))
    });
    let written = lines
        .try_filter(|(_, line)| std::future::ready(!line.trim().is_empty()))
        .map(|line| async move {
            let (number, line) = line?;
            let at = |error: String| Failure::usage(format!("line {number}: {error}"));
            let (key, value) = entry(&line).map_err(at)?;
            let put = map.put(&key, value).await;
            put.map_err(|error| Failure::from(error).advised(&format!("that was line {number}")))
        })
        .buffered(WRITES_MAX)
        .try_fold(0, async |count, _| Ok(count + 1))
        .await?;
    Ok(Report::new(format!("{written} written"), json!({"written": written})))
}

fn entry(line: &str) -> Result<(String, Bytes), String> {
    let form = r#"write {"key":"…","value":"…"} or {"key":"…","bytes":[…]}"#;
    let json: Value = serde_json::from_str(line).map_err(|error| format!("{error}; {form}"))?;
    let key = json["key"].as_str().ok_or_else(|| format!("key is missing; {form}"))?;
    let value = match (&json["value"], &json["bytes"]) {
        (Value::String(text), Value::Null) => text.clone().into(),
        (Value::Null, Value::Array(bytes)) => {
            let byte = |byte: &Value| byte.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Option<Vec<u8>> = bytes.iter().map(byte).collect();
            bytes.ok_or("bytes: write numbers from 0 to 255")?.into()
        }
        _ => return Err(format!("one of value and bytes is needed; {form}")),
    };
    Ok((key.into(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_text_or_bytes() {
        let read = |line: &str| entry(line).map(|(key, value)| (key, value.to_vec()));
        assert_eq!(read(r#"{"key":"a","value":"b","version":7}"#), Ok(("a".into(), b"b".into())));
        assert_eq!(read(r#"{"key":"a","bytes":[0,255]}"#), Ok(("a".into(), vec![0, 255])));
        for wrong in
            ["", "{}", r#"{"key":"a"}"#, r#"{"key":"a","bytes":[256]}"#, r#"{"value":"b"}"#]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}

//! How long a caller wants an answer: gRPC's header `grpc-timeout`, and until it gives the call up.

use bytes::Bytes;
use h2::server::SendResponse;
use std::future::poll_fn;
use std::time::Duration;
use tonic::Status;

/// The caller's deadline from now on; one that is no number of a unit is as good as none.
pub fn of(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(3600 * count),
        "M" => Duration::from_secs(60 * count),
        "S" => Duration::from_secs(count),
        "m" => Duration::from_millis(count),
        "u" => Duration::from_micros(count),
        "n" => Duration::from_nanos(count),
        _ => return None,
    })
}

/// Runs a call until it ends or its deadline has passed. `None`: the caller gave it up before, and
/// it was dropped.
pub async fn within<T>(
    deadline: Option<Duration>,
    respond: &mut SendResponse<Bytes>,
    call: impl Future<Output = Result<T, Status>>,
) -> Option<Result<T, Status>> {
    tokio::select! {
        biased;
        result = in_time(deadline, call) => Some(result),
        _ = poll_fn(|cx| respond.poll_reset(cx)) => None,
    }
}

async fn in_time<T>(
    deadline: Option<Duration>,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    match deadline {
        None => call.await,
        Some(time) => tokio::time::timeout(time, call).await.unwrap_or_else(|_| {
            Err(Status::deadline_exceeded(format!("no answer within {} ms", time.as_millis())))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_grpc_specifies_it() {
        for (value, deadline) in [
            ("1H", Some(Duration::from_secs(3600))),
            ("2M", Some(Duration::from_secs(120))),
            ("99999999S", Some(Duration::from_secs(99_999_999))),
            ("100m", Some(Duration::from_millis(100))),
            ("0u", Some(Duration::ZERO)),
            ("7n", Some(Duration::from_nanos(7))),
            ("100000000S", None),
            ("-1S", None),
            ("+1S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("1µ", None),
        ] {
            let mut headers = http::HeaderMap::new();
            headers
                .insert("grpc-timeout", http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(of(&headers), deadline, "{value}");
        }
        assert_eq!(of(&http::HeaderMap::new()), None);
    }
}

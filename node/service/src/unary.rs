//! A call with one message each way, straight on HTTP/2: the message is taken from the frame that
//! it came in, and no task, body or header map is made for it that is not sent.

use crate::deadline;
use crate::limits::{MESSAGE_BYTES_MAX, REQUEST_END_TIMEOUT, UNRESERVED_BYTES_MAX};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Response, header};
use prost::Message;
use std::future::poll_fn;
use std::time::Duration;
use tonic::{Code, Status};

/// Compressed flag and length, before every message.
const PREFIX_BYTES: usize = 5;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const STATUS: &str = "grpc-status";
const OK: HeaderValue = HeaderValue::from_static("0");

/// An encoded message behind its prefix.
pub struct Framed(Bytes);

impl Framed {
    pub fn new(message: &impl Message) -> Self {
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + message.encoded_len());
        put_framed(&mut bytes, message);
        Framed(bytes.into())
    }
}

/// Adds a message behind its prefix.
pub fn put_framed(bytes: &mut impl BufMut, message: &impl Message) {
    bytes.put_u8(0);
    // Below 4 GiB: outputs are bounded where they are made.
    bytes.put_u32(message.encoded_len() as u32);
    message.encode_raw(bytes);
}

/// Reads the request, lets it be answered, sends that. Ends early, dropping the answer's future,
/// when the caller gives the call up.
pub async fn serve<A: Future<Output = Result<Framed, Status>>>(
    mut body: RecvStream,
    time: Option<Duration>,
    answer: impl FnOnce(Bytes) -> A,
    respond: &mut SendResponse<Bytes>,
) {
    let call = async { answer(message(&mut body).await?).await };
    let Some(answer) = deadline::within(time, respond, call).await else { return };
    // An error here means that the caller or its connection is gone.
    if send(answer, respond).await.is_ok() && !body.is_end_stream() {
        ended(body).await;
    }
}

/// Refuses a request unread.
pub async fn refuse(body: RecvStream, status: Status, respond: &mut SendResponse<Bytes>) {
    // An error here means that the caller or its connection is gone.
    if respond.send_response(status.into_http(), true).is_ok() && !body.is_end_stream() {
        ended(body).await;
    }
}

/// Waits for the end of a request that is answered: the frame of its own that callers end it with
/// may be on its way still, and h2 ends connections that get many for streams that it has forgotten.
pub async fn ended(mut body: RecvStream) {
    let end = async { while let Some(Ok(_)) = body.data().await {} };
    // Whoever says no end is reset.
    let _ = tokio::time::timeout(REQUEST_END_TIMEOUT, end).await;
}

async fn send(
    answer: Result<Framed, Status>,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let Framed(bytes) = match answer {
        Ok(framed) => framed,
        Err(status) => return respond.send_response(status.into_http(), true).map(drop),
    };
    let mut stream = begin(respond)?;
    send_data(&mut stream, bytes).await?;
    end_well(&mut stream)
}

/// Begins a response that has messages, or may have some.
pub fn begin(respond: &mut SendResponse<Bytes>) -> Result<SendStream<Bytes>, h2::Error> {
    let mut response = Response::new(());
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    respond.send_response(response, false)
}

/// Ends a response that has begun.
pub fn end(stream: &mut SendStream<Bytes>, status: &Status) -> Result<(), h2::Error> {
    if status.code() == Code::Ok {
        return end_well(stream);
    }
    let mut trailers = HeaderMap::new();
    // Fails only for metadata that are no header: we set none.
    let _ = status.add_header(&mut trailers);
    stream.send_trailers(trailers)
}

fn end_well(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(STATUS, OK);
    stream.send_trailers(trailers)
}

/// Sends bytes, large ones as fast as the receiver takes them.
pub async fn send_data(stream: &mut SendStream<Bytes>, data: Bytes) -> Result<(), h2::Error> {
    if data.len() <= UNRESERVED_BYTES_MAX {
        return stream.send_data(data, false);
    }
    send_reserved(stream, data).await
}

/// Sends bytes as fast as the receiver takes them.
pub async fn send_reserved(
    stream: &mut SendStream<Bytes>,
    mut data: Bytes,
) -> Result<(), h2::Error> {
    while data.has_remaining() {
        stream.reserve_capacity(data.len());
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(free) => stream.send_data(data.split_to(free?.min(data.len())), false)?,
            None => return Err(h2::Reason::CANCEL.into()),
        }
    }
    Ok(())
}

/// The only message of a request.
pub async fn message(body: &mut RecvStream) -> Result<Bytes, Status> {
    let mut rest = BytesMut::new();
    let message = next_message(body, &mut rest).await?;
    message.ok_or_else(|| Status::invalid_argument("the request ends before its message does"))
}

/// The messages of a request that streams.
pub struct Messages {
    body: RecvStream,
    /// Came, and is not taken.
    rest: BytesMut,
}

impl Messages {
    pub fn new(body: RecvStream) -> Self {
        Messages { body, rest: BytesMut::new() }
    }

    /// The next one; `None` behind the last. What came is kept when the future is dropped.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        next_message(&mut self.body, &mut self.rest).await
    }
}

async fn next_message(body: &mut RecvStream, rest: &mut BytesMut) -> Result<Option<Bytes>, Status> {
    loop {
        if let Some(length) = length(rest)?
            && rest.len() >= PREFIX_BYTES + length
        {
            rest.advance(PREFIX_BYTES);
            return Ok(Some(rest.split_to(length).freeze()));
        }
        let Some(chunk) = chunk(body).await? else {
            return match rest.is_empty() {
                true => Ok(None),
                false => Err(Status::invalid_argument("the request ends before its message does")),
            };
        };
        if rest.is_empty()
            && let Some(length) = length(&chunk)?
            && let Some(message) = chunk.get(PREFIX_BYTES..PREFIX_BYTES + length)
        {
            // Usually a frame is a message, which is taken as it is.
            rest.extend_from_slice(&chunk[PREFIX_BYTES + length..]);
            return Ok(Some(chunk.slice_ref(message)));
        }
        rest.extend_from_slice(&chunk);
    }
}

/// The message's length, once its prefix is there.
fn length(bytes: &[u8]) -> Result<Option<usize>, Status> {
    let Some((prefix, _)) = bytes.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [compressed, length @ ..] = *prefix;
    if compressed != 0 {
        return Err(Status::unimplemented("compressed messages: send them as they are"));
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(Status::out_of_range(format!(
            "the message has {length} bytes, at most {MESSAGE_BYTES_MAX} are taken"
        )));
    }
    Ok(Some(length))
}

/// The next bytes of a body, which may be read on by the sender's side then; `None` = it ended.
async fn chunk(body: &mut RecvStream) -> Result<Option<Bytes>, Status> {
    match body.data().await {
        Some(Ok(bytes)) => {
            // Fails only when the stream has ended, and then nobody waits for room.
            let _ = body.flow_control().release_capacity(bytes.len());
            Ok(Some(bytes))
        }
        Some(Err(error)) => Err(Status::cancelled(format!("the request broke off: {error}"))),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn a_prefix_says_how_long_a_message_is() {
        let limit = MESSAGE_BYTES_MAX as u32;
        let prefix = |length: u32| [&[0], length.to_be_bytes().as_slice()].concat();
        assert_eq!(length(&[0, 0, 0]).unwrap(), None);
        assert_eq!(length(&prefix(7)).unwrap(), Some(7));
        assert_eq!(length(&prefix(limit)).unwrap(), Some(MESSAGE_BYTES_MAX));
        let refused = length(&prefix(limit + 1)).unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
        assert!(refused.message().contains("4194304"), "{refused}");
        assert_eq!(length(&[1, 0, 0, 0, 0]).unwrap_err().code(), Code::Unimplemented);
    }

    #[test]
    fn a_message_is_framed_as_it_is_read() {
        let Framed(bytes) = Framed::new(&"hello".to_owned());
        assert_eq!(length(&bytes).unwrap(), Some(bytes.len() - PREFIX_BYTES));
        assert_eq!(String::decode(&bytes[PREFIX_BYTES..]).unwrap(), "hello");
    }
}

//! A call of the services that tonic generated: its bodies are carried between HTTP/2 and them.

use crate::deadline;
use crate::unary::send_data;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http_body::{Body as _, Frame};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower_service::Service;

/// The body of a request as the services read it.
pub fn body(stream: RecvStream) -> Body {
    Body::new(Incoming(stream))
}

/// Lets a request be answered and sends that, frame by frame. Ends early, dropping the handler and
/// its stream, when the caller gives the call up.
pub async fn serve(
    mut services: Routes,
    request: http::Request<Body>,
    time: Option<Duration>,
    respond: &mut SendResponse<Bytes>,
) {
    let call = async {
        let Ok::<_, Infallible>(response) = services.call(request).await;
        Ok(response)
    };
    let Some(response) = deadline::within(time, respond, call).await else { return };
    let response = response.unwrap_or_else(Status::into_http);
    // An error here means that the caller or its connection is gone.
    let _ = send(response, respond).await;
}

async fn send(
    response: http::Response<Body>,
    respond: &mut SendResponse<Bytes>,
) -> Result<(), h2::Error> {
    let (head, body) = response.into_parts();
    let head = http::Response::from_parts(head, ());
    if body.is_end_stream() {
        return respond.send_response(head, true).map(drop);
    }
    let mut stream = respond.send_response(head, false)?;
    let mut body = pin!(body);
    loop {
        let frame = tokio::select! {
            biased;
            frame = poll_fn(|cx| body.as_mut().poll_frame(cx)) => frame,
            gone = poll_fn(|cx| stream.poll_reset(cx)) => return gone.map(drop),
        };
        let frame = match frame {
            None => return stream.send_data(Bytes::new(), true),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::debug!(%error, "a response broke off");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
        };
        match frame.into_data() {
            Ok(data) => send_data(&mut stream, data).await?,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    return stream.send_trailers(trailers);
                }
            }
        }
    }
}

struct Incoming(RecvStream);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.0;
        if let Some(data) = ready!(stream.poll_data(cx)) {
            let data = data?;
            // Fails only when the stream has ended, and then nobody waits for room.
            let _ = stream.flow_control().release_capacity(data.len());
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let trailers = ready!(stream.poll_trailers(cx)?);
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

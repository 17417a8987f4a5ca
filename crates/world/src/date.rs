//! The `date` header of responses, stamped from the world's clock. Without it hyper stamps its own, from the wall clock: the
//! bytes on the wire, and with them a simulation, would then differ from run to run.

use std::task::{Context, Poll};
use std::time::{Duration, UNIX_EPOCH};

use tonic::codegen::http::{HeaderValue, Response, header};
use tonic::codegen::{BoxFuture, Service};

use crate::World;

/// Wraps a server's services.
#[derive(Clone, Debug)]
pub struct DateLayer(pub(crate) World);

impl<S> tower::Layer<S> for DateLayer {
    type Service = Dated<S>;

    fn layer(&self, inner: S) -> Dated<S> {
        Dated { inner, world: self.0.clone() }
    }
}

/// A service whose responses say when they were made.
#[derive(Clone, Debug)]
pub struct Dated<S> {
    inner: S,
    world: World,
}

impl<S, Request, Body> Service<Request> for Dated<S>
where
    S: Service<Request, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<Response<Body>, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let (answer, world) = (self.inner.call(request), self.world.clone());
        Box::pin(async move {
            let mut answer = answer.await?;
            answer.headers_mut().insert(header::DATE, stamp(world.unix_ms()));
            Ok(answer)
        })
    }
}

fn stamp(unix_ms: u64) -> HeaderValue {
    let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(unix_ms));
    HeaderValue::try_from(text).expect("a date has only printable ASCII")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_a_date_of_http() {
        assert_eq!(stamp(784_111_777_000), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}

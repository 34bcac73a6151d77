//! Container logs: the kubelet's bytes as they come.

use http::header::{self, HeaderValue};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use keelson_machinery::Status;

use crate::backend::empty;
use crate::limits::REFUSAL_BYTES_MAX;
use crate::{Body, Target};

/// Fetches a log; the answer streams until the kubelet ends it or the client goes away.
///
/// # Errors
/// The kubelet's refusal: its text for 400 and 500, upstream's for others; 500 where it cannot be reached.
pub async fn log(target: Target) -> Result<Response<Body>, Status> {
    let mut onward = Request::new(empty());
    *onward.method_mut() = Method::GET;
    let refused =
        |why: http::uri::InvalidUri| Status::bad_request(format!("invalid path at the backend: {why}"));
    *onward.uri_mut() = target.path_and_query.parse().map_err(refused)?;
    let reached = target.backend.send(onward).await;
    let answer =
        reached.map_err(|why| Status::internal(format!("Get {:?}: {why}", target.path_and_query)))?;
    let (head, body) = answer.into_parts();
    if !(200..=206).contains(&head.status.as_u16()) {
        let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
        let bytes = body.map_or_else(|_| bytes::Bytes::new(), http_body_util::Collected::to_bytes);
        return Err(refusal(
            head.status.as_u16(),
            String::from_utf8_lossy(&bytes).trim_end(),
        ));
    }
    let mut response = Response::new(body.map_err(Into::into).boxed_unsync());
    let text = HeaderValue::from_static("text/plain");
    let kind = head.headers.get(header::CONTENT_TYPE).cloned().unwrap_or(text);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// A kubelet's refusal as upstream's response checker tells it.
fn refusal(code: u16, text: &str) -> Status {
    let plain = |reason, message: &str| Status::new(code, reason, message, serde_json::json!({}));
    match code {
        400 => Status::bad_request(text),
        500 => Status::internal(text),
        401 => plain(
            "Unauthorized",
            "the server has asked for the client to provide credentials",
        ),
        403 => plain("Forbidden", text),
        404 => Status::no_such_path(),
        503 => plain(
            "ServiceUnavailable",
            "the server is currently unable to handle the request",
        ),
        _ if code >= 500 => {
            let message =
                format!("an error on the server ({text:?}) has prevented the request from succeeding");
            plain("InternalError", &message)
        }
        _ => {
            let message = format!(
                "the server responded with the status code {code} but did not return more information"
            );
            plain("", &message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_carry_the_kubelets_text() {
        let waiting = "container \"c\" in pod \"p\" is waiting to start: ContainerCreating";
        assert_eq!(
            (
                refusal(400, waiting).reason,
                refusal(400, waiting).message.as_str()
            ),
            ("BadRequest", waiting)
        );
        assert_eq!(refusal(500, "x").message, "Internal error occurred: x");
        assert_eq!(refusal(404, "x").reason, "NotFound");
    }
}

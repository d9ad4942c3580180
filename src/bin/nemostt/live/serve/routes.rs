// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests and their responses.

use std::sync::Arc;

use hyper::{
    HeaderMap, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
        WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};

use super::{
    access::{Access, Refusal, parameter},
    admission::Handle,
    client::{ClientBody, ResponseBody},
    hub::{Hub, SubscribeError},
};

const PAGE: &str = include_str!("../page/index.html");
const STYLE: &str = include_str!("../page/captions.css");
const SCRIPT: &str = include_str!("../page/captions.js");

const EVENTS: &str = "text/event-stream";
const HTML: &str = "text/html; charset=utf-8";
const JSON_LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain; charset=utf-8";

/// What is served, and to whom.
pub struct Site {
    pub hub: Arc<Hub>,
    pub access: Access,
}

impl Site {
    /// The response to `request`, which came through the connection of `handle`.
    pub fn respond<B>(&self, request: &Request<B>, handle: &Handle) -> Response<ResponseBody> {
        let mut response = self.route(request, handle).unwrap_or_else(|refusal| {
            let mut response = whole(TEXT, refusal.message + "\n");
            *response.status_mut() = refusal.status;
            if refusal.status == StatusCode::UNAUTHORIZED {
                response
                    .headers_mut()
                    .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            response
        });
        protect(response.headers_mut());
        if request.method() == Method::HEAD {
            *response.body_mut() = ResponseBody::Whole(None);
        }
        response
    }

    fn route<B>(&self, request: &Request<B>, handle: &Handle) -> Result<Response<ResponseBody>, Refusal> {
        let headers = request.headers();
        self.access.check_origin(headers)?;
        self.access.check_fetch(headers, request.uri().path())?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = whole(TEXT, "Only GET and HEAD are possible\n");
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return Ok(response);
        }
        // The page itself tells nothing, and reads the token from its address.
        match request.uri().path() {
            "/" => return Ok(whole(HTML, PAGE)),
            "/captions.css" => return Ok(whole("text/css; charset=utf-8", STYLE)),
            "/captions.js" => return Ok(whole("text/javascript; charset=utf-8", SCRIPT)),
            "/health" => return Ok(whole(TEXT, "ok\n")),
            _ => {}
        }
        let query = request.uri().query();
        self.access.check_token(headers, query)?;
        let is_set = |name: &str| parameter(query, name) == Some("1");
        let is_head = request.method() == Method::HEAD;
        match request.uri().path() {
            "/events" if is_head => Ok(whole(EVENTS, "")),
            "/captions.jsonl" if is_head => Ok(whole(JSON_LINES, "")),
            "/events" => {
                let header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
                let last = header.or_else(|| parameter(query, "last"));
                endless(EVENTS, self.hub.subscribe(last, handle.close.clone()), handle)
            }
            "/captions.jsonl" => {
                let body = self
                    .hub
                    .subscribe_json(is_set("partials"), is_set("history"), handle.close.clone());
                endless(JSON_LINES, body, handle)
            }
            "/captions.vtt" => Ok(whole("text/vtt; charset=utf-8", self.hub.vtt())),
            _ => Err(Refusal {
                status: StatusCode::NOT_FOUND,
                message: "There are /, /events, /captions.jsonl, /captions.vtt and /health".into(),
            }),
        }
    }
}

fn whole(content_type: &'static str, contents: impl Into<hyper::body::Bytes>) -> Response<ResponseBody> {
    with_type(content_type, ResponseBody::of(contents))
}

fn endless(
    content_type: &'static str,
    body: Result<ClientBody, SubscribeError>,
    handle: &Handle,
) -> Result<Response<ResponseBody>, Refusal> {
    let body = body.map_err(|error| Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        message: error.to_string(),
    })?;
    handle.set_subscribed();
    Ok(with_type(content_type, ResponseBody::Client(body)))
}

fn with_type(content_type: &'static str, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Headers of every response.
fn protect(headers: &mut HeaderMap) {
    let all = [
        (CACHE_CONTROL, "no-store"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
        ),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    for (name, value) in all {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

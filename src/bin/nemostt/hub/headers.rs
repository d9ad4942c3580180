// SPDX-License-Identifier: MIT OR Apache-2.0

//! Headers of a response.

use std::time::Duration;

use ureq::{Body, http::Response};

/// A header as text, unless it is missing or empty.
pub fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

/// A header as number.
pub fn number(response: &Response<Body>, name: &str) -> Option<u64> {
    text(response, name)?.parse().ok()
}

/// An ETag without quotes and the prefix of weak ones.
pub fn tag(response: &Response<Body>, name: &str) -> Option<String> {
    let tag = text(response, name)?.trim_start_matches("W/").trim_matches('"');
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// How long to wait before the next attempt. (Hubs do not send a date, which this header may also have.)
pub fn retry_after(response: &Response<Body>) -> Option<Duration> {
    number(response, "retry-after").map(Duration::from_secs)
}

/// The start of the range in a response with status 206.
pub fn range_start(response: &Response<Body>) -> Option<u64> {
    let range = text(response, "content-range")?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(name: &str, value: &str) -> Response<Body> {
        Response::builder()
            .header(name, value)
            .body(Body::builder().data(""))
            .unwrap()
    }

    #[test]
    fn tags_lose_their_quotes() {
        for value in ["\"abc\"", "W/\"abc\"", "abc"] {
            assert_eq!(tag(&response("etag", value), "etag").as_deref(), Some("abc"), "{value}");
        }
        assert_eq!(tag(&response("etag", "\"\""), "etag"), None);
    }

    #[test]
    fn ranges_begin_where_they_say() {
        assert_eq!(range_start(&response("content-range", "bytes 100-199/200")), Some(100));
        for value in ["bytes */200", "items 0-1/2", "bytes -5"] {
            assert_eq!(range_start(&response("content-range", value)), None, "{value}");
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the headers of a response say.

use std::time::Duration;

use ureq::{Body, http::Response};

/// A header as text, if it is there and is not empty.
pub fn text<'a>(response: &'a Response<Body>, name: &str) -> Option<&'a str> {
    let value = response.headers().get(name)?.to_str().ok()?.trim();
    (!value.is_empty()).then_some(value)
}

/// A header as number.
pub fn number(response: &Response<Body>, name: &str) -> Option<u64> {
    text(response, name)?.parse().ok()
}

/// An ETag without quotes and without the mark of a weak one.
pub fn tag(response: &Response<Body>, name: &str) -> Option<String> {
    let tag = text(response, name)?.trim_start_matches("W/").trim_matches('"');
    (!tag.is_empty()).then(|| tag.to_owned())
}

/// How long to wait before the next try. (The date that this header may also hold, no hub sends.)
pub fn retry_after(response: &Response<Body>) -> Option<Duration> {
    number(response, "retry-after").map(Duration::from_secs)
}

/// Where the part begins that a response with status 206 holds.
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

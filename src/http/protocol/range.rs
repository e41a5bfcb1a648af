//! `Range`: which part of a body is wanted.
//!
//! Source: [RFC 9110, section 14](https://www.rfc-editor.org/rfc/rfc9110#section-14). One range is answered with 206. What
//! a server may ignore is ignored: several ranges, other units, malformed text and ranges on anything but GET bring the
//! whole body with 200, so that a client that checks the status is never surprised.

use hyper::HeaderMap;
use hyper::header::{IF_RANGE, RANGE};
use std::ops::Range;

/// What part of a body of a known length is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: 200.
    Whole,
    /// These bytes, at least one: 206 with `Content-Range`.
    Bytes(Range<u64>),
    /// None that exist: 416.
    Unsatisfiable,
}

impl Part {
    /// What the `headers` of a GET ask for, of a body of `length` bytes whose strong entity tag is `etag`.
    #[must_use]
    pub fn wanted(headers: &HeaderMap, length: u64, etag: &str) -> Self {
        let mut values = headers.get_all(RANGE).iter();
        let (Some(value), None) = (values.next(), values.next()) else { return Self::Whole };
        // A date cannot be the right one, for we send none.
        if headers.get(IF_RANGE).is_some_and(|condition| condition.as_bytes() != etag.as_bytes()) {
            return Self::Whole;
        }
        value.to_str().map_or(Self::Whole, |text| Self::parse(text, length))
    }

    /// What the text of a `Range` asks for, of a body of `length` bytes.
    #[must_use]
    pub fn parse(text: &str, length: u64) -> Self {
        let Some((unit, range)) = text.split_once('=') else { return Self::Whole };
        let Some((first, last)) = range.trim_matches([' ', '\t']).split_once('-') else { return Self::Whole };
        if !unit.eq_ignore_ascii_case("bytes") {
            return Self::Whole;
        }
        let part = match (number(first), number(last)) {
            (Some(Some(first)), Some(Some(last))) if first > last => return Self::Whole,
            (Some(Some(first)), Some(last)) => first..last.map_or(length, |last| last.saturating_add(1)).min(length),
            (Some(None), Some(Some(suffix))) => length.saturating_sub(suffix)..length,
            _ => return Self::Whole,
        };
        if part.is_empty() { Self::Unsatisfiable } else { Self::Bytes(part) }
    }
}

/// Digits, or nothing at all; `None` for anything else. A number too large for the type is larger than any body.
fn number(text: &str) -> Option<Option<u64>> {
    if !text.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some((!text.is_empty()).then(|| text.parse().unwrap_or(u64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    #[test]
    fn one_range() {
        for (text, part) in [
            ("bytes=0-0", 0..1),
            ("bytes=99-", 99..100),
            ("bytes=99-99", 99..100),
            ("bytes=0-", 0..100),
            ("bytes=10-19", 10..20),
            ("bytes=10-1000", 10..100),
            ("bytes=10-99999999999999999999999", 10..100),
            ("bytes=-1", 99..100),
            ("bytes=-1000", 0..100),
            ("Bytes= 1-2 ", 1..3),
        ] {
            assert_eq!(Part::parse(text, 100), Part::Bytes(part), "{text}");
        }
    }

    #[test]
    fn ranges_beyond_the_end() {
        for text in ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=99999999999999999999999-"] {
            assert_eq!(Part::parse(text, 100), Part::Unsatisfiable, "{text}");
        }
        assert_eq!(Part::parse("bytes=0-", 0), Part::Unsatisfiable);
    }

    #[test]
    fn what_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=1",
            "bytes=5-4",
            "bytes=0-1,4-5",
            "bytes=0-1,",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=--1",
            "bytes=1 - 2",
            "bytes =0-1",
            "items=0-1",
        ] {
            assert_eq!(Part::parse(text, 100), Part::Whole, "{text}");
        }
    }

    #[test]
    fn conditions_and_repetitions() {
        let headers = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, HeaderValue::from_static(value));
            }
            headers
        };
        let wanted = |pairs: &[(&'static str, &'static str)]| Part::wanted(&headers(pairs), 100, "\"a\"");
        assert_eq!(wanted(&[]), Part::Whole);
        assert_eq!(wanted(&[("range", "bytes=1-")]), Part::Bytes(1..100));
        assert_eq!(wanted(&[("range", "bytes=1-"), ("if-range", "\"a\"")]), Part::Bytes(1..100));
        assert_eq!(wanted(&[("range", "bytes=1-"), ("if-range", "\"b\"")]), Part::Whole);
        assert_eq!(wanted(&[("range", "bytes=1-"), ("if-range", "W/\"a\"")]), Part::Whole, "weak tags never match");
        assert_eq!(wanted(&[("range", "bytes=1-"), ("if-range", "Thu, 01 Jan 1970 00:00:01 GMT")]), Part::Whole);
        assert_eq!(wanted(&[("range", "bytes=1-"), ("range", "bytes=2-")]), Part::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_inside(text in "bytes=[0-9]{0,21}-[0-9]{0,21}", length in 0_u64..1000) {
            if let Part::Bytes(part) = Part::parse(&text, length) {
                prop_assert!(part.start < part.end && part.end <= length);
            }
        }

        #[test]
        fn never_panics(text in ".{0,60}", length: u64) {
            let _: Part = Part::parse(&text, length);
        }
    }
}

//! Where a reference leads that stands in an answer: RFC 3986, section 5, for http and https.

use hyper::Uri;
use std::fmt::Write as _;

/// The longest reference that is followed, in bytes. Signed addresses of object stores have some 2 KiB.
const REFERENCE_MAX: usize = 8 * 1024;

/// What `reference` means in a document at `base`. `None` if that is no address of http or https, or names a user, which would be sent to
/// whoever the answer says.
pub(super) fn resolve(base: &Uri, reference: &[u8]) -> Option<Uri> {
    let reference = escaped(reference.trim_ascii())?;
    let (reference, _fragment) = reference.split_once('#').unwrap_or((&reference, ""));
    let own_scheme = scheme(reference);
    let rest = own_scheme.map_or(reference, |scheme| &reference[scheme.len() + 1..]);
    let scheme = own_scheme.map_or_else(|| base.scheme_str().map(str::to_owned), |own| Some(own.to_ascii_lowercase()));
    let scheme = scheme.filter(|scheme| matches!(scheme.as_str(), "http" | "https"))?;
    let (authority, path_and_query) = match rest.strip_prefix("//") {
        Some(rest) => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (&rest[..end], &rest[end..])
        }
        // `http:x` is no address.
        None if own_scheme.is_some() => return None,
        None => (base.authority()?.as_str(), rest),
    };
    let is_elsewhere = rest.starts_with("//");
    if is_elsewhere && (authority.is_empty() || authority.contains('@')) {
        return None;
    }
    let (path, query) = match path_and_query.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path_and_query, None),
    };
    let (path, query) = if is_elsewhere || path.starts_with('/') {
        (without_dots(path), query)
    } else if path.is_empty() {
        (base.path().to_owned(), query.or(base.query()))
    } else {
        let folder = base.path().rfind('/').map_or("/", |end| &base.path()[..=end]);
        (without_dots(&format!("{folder}{path}")), query)
    };
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    format!("{scheme}://{authority}{path}{query}").parse().ok()
}

/// The scheme that a reference begins with, if it has one of its own.
fn scheme(reference: &str) -> Option<&str> {
    let scheme = &reference[..reference.find([':', '/', '?'])?];
    let is_one = reference[scheme.len()..].starts_with(':')
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'-' | b'.'));
    is_one.then_some(scheme)
}

/// The same with what may not stand in an address escaped, as browsers do it; `None` if it is too long, or has control characters.
fn escaped(reference: &[u8]) -> Option<String> {
    let mut text = String::with_capacity(reference.len());
    for byte in reference {
        match byte {
            _ if byte.is_ascii_alphanumeric() || b"-._~:/?#[]@!$&'()*+,;=%".contains(byte) => {
                text.push(char::from(*byte));
            }
            0..0x20 | 0x7f => return None,
            // Writing to a String cannot fail.
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    (reference.len() <= REFERENCE_MAX).then_some(text)
}

/// An absolute path without `.` and `..`; the root if it is empty.
fn without_dots(path: &str) -> String {
    let (mut kept, mut segments) = (Vec::new(), path.strip_prefix('/').unwrap_or(path).split('/').peekable());
    while let Some(segment) = segments.next() {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => {
                kept.push(segment);
                continue;
            }
        }
        if segments.peek().is_none() {
            // It means a folder.
            kept.push("");
        }
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolved(base: &str, reference: &str) -> Option<String> {
        resolve(&base.parse().unwrap(), reference.as_bytes()).map(|uri| uri.to_string())
    }

    #[test]
    fn references_mean_what_the_standard_says() {
        // RFC 3986, 5.4; without what is no address of http.
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("g#s", "http://a/b/c/g"),
            ("g?y#s", "http://a/b/c/g?y"),
            (";x", "http://a/b/c/;x"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("./", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../..", "http://a/"),
            ("../../g", "http://a/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("/../g", "http://a/g"),
            ("g.", "http://a/b/c/g."),
            ("..g", "http://a/b/c/..g"),
            ("./../g", "http://a/b/g"),
            ("./g/.", "http://a/b/c/g/"),
            ("g/../h", "http://a/b/c/h"),
            ("g?y/../x", "http://a/b/c/g?y/../x"),
            ("HTTPS://H:8/x/../y?z", "https://H:8/y?z"),
            ("http://h?x", "http://h/?x"),
            ("//[::1]:8/x", "http://[::1]:8/x"),
            (" g h\u{e9} ", "http://a/b/c/g%20h%C3%A9"),
            ("g%2Fh?a=b%3D:c", "http://a/b/c/g%2Fh?a=b%3D:c"),
        ] {
            assert_eq!(resolved("http://a/b/c/d;p?q", reference).as_deref(), Some(expected), "{reference}");
        }
        assert_eq!(resolved("https://h:8", "x").as_deref(), Some("https://h:8/x"));
    }

    #[test]
    fn what_is_no_address_leads_nowhere() {
        for reference in
            ["http:g", "g:h", "file:///etc/passwd", "//", "http://", "//u:p@h/x", "http://u@h/", "a\nb", "http://a b/"]
        {
            assert_eq!(resolved("http://a/b", reference), None, "{reference:?}");
        }
        assert_eq!(resolved("http://a/b", &"x".repeat(REFERENCE_MAX + 1)), None);
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_an_address_of_http_or_nothing(
            reference in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..100),
                "([a-z]{0,6}:)?(//)?[a-z@:.%/?#\\[\\]\\\\ ]{0,40}".prop_map(String::into_bytes),
            ],
        ) {
            let Some(uri) = resolve(&"https://a:8/b/c".parse().unwrap(), &reference) else { return Ok(()) };
            prop_assert!(matches!(uri.scheme_str(), Some("http" | "https")), "{uri}");
            prop_assert!(uri.authority().is_some_and(|authority| !authority.as_str().contains('@')), "{uri}");
            prop_assert!(!uri.path().split('/').any(|segment| matches!(segment, "." | "..")), "{uri}");
        }
    }
}

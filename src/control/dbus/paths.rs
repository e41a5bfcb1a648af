//! Where the objects are.

use zbus::{ObjectPath, OwnedObjectPath};

/// The object that stands for the service.
pub(super) const ROOT: &str = "/org/peernix/Peernix1";

/// The object of a peer.
pub(super) fn peer_path(id: &str) -> OwnedObjectPath {
    path(&format!("{ROOT}/peer/{}", escape(id)))
}

/// The object of a key.
pub(super) fn key_path(fingerprint: &str) -> OwnedObjectPath {
    path(&format!("{ROOT}/key/{}", escape(fingerprint)))
}

/// The object of a job.
pub(super) fn job_path(id: u64) -> OwnedObjectPath {
    path(&format!("{ROOT}/job/{id}"))
}

/// No object.
pub(super) fn none() -> OwnedObjectPath {
    path("/")
}

fn path(path: &str) -> OwnedObjectPath {
    // Escaped texts and digits are always good; should that ever be wrong, an answer must not fail of it.
    ObjectPath::try_from(path.to_owned()).unwrap_or(ObjectPath::from_static_str_unchecked("/")).into()
}

/// A text as one element of an object path, as `sd_bus_path_encode` does it: everything but letters and digits as `_XX`.
fn escape(text: &str) -> String {
    if text.is_empty() {
        return "_".to_owned();
    }
    let mut element = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || (at > 0 && byte.is_ascii_digit()) {
            element.push(char::from(byte));
        } else {
            element.push_str(&format!("_{byte:02x}"));
        }
    }
    element
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_text_makes_one_element_of_a_path() {
        assert_eq!(escape("ab1"), "ab1");
        assert_eq!(escape("1-ä/"), "_31_2d_c3_a4_2f");
        assert_eq!(escape(""), "_");
        assert_eq!(peer_path("a.b").as_str(), "/org/peernix/Peernix1/peer/a_2eb");
        assert_eq!(job_path(7).as_str(), "/org/peernix/Peernix1/job/7");
        assert_eq!(none().as_str(), "/");
    }
}

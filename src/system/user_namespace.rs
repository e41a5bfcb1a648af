//! Whether root and groups here are those of the machine.
#![forbid(unsafe_code)]

/// Whether this process is in a user namespace other than the first one. Sources: user_namespaces(7), `/proc/self/uid_map`.
#[must_use]
pub fn is_inside() -> bool {
    // A kernel that has no such file has no such namespaces.
    std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_all_users(&map))
}

/// Whether these are all users, each with its own number.
fn is_all_users(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::is_all_users;

    #[test]
    fn a_user_namespace_is_told_from_the_machine() {
        assert!(is_all_users("         0          0 4294967295\n"));
        assert!(!is_all_users("         0       1000          1\n"));
        assert!(!is_all_users("0 0 1\n1000 1000 1\n"), "the namespace of the unit");
        assert!(!is_all_users(""), "one without users");
    }
}

//! Which metadata is not to be shown.

/// Whether the values of a header are secrets: those that are known to be, and those
/// that say so by their name, which is in lower case as HTTP/2 has it.
pub fn is_secret(name: &str) -> bool {
    const SIGNS: [&str; 7] =
        ["authorization", "cookie", "token", "secret", "password", "api-key", "assertion"];
    SIGNS.iter().any(|sign| name.contains(sign))
}

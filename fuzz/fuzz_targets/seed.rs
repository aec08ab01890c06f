//! The form of what is fed to a method: its path on a line, and then messages, each
//! with its length before it as two bytes. The last one may be shorter than that.

/// The path and the messages. `None` without a whole line in UTF-8.
pub(crate) fn parse(bytes: &[u8]) -> Option<(&str, Vec<&[u8]>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let path = std::str::from_utf8(&bytes[..end]).ok()?;
    let mut messages = Vec::new();
    let mut rest = &bytes[end + 1..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (message, after) = after.split_at(length);
        messages.push(message);
        rest = after;
    }
    Some((path, messages))
}

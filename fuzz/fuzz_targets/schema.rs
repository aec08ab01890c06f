//! The descriptors of a peer, and messages by them: from the wire to JSON and back. The
//! length of the descriptors comes first, as two bytes; a message follows them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use prost_reflect::DynamicMessage;
use schema::{
    Schema,
    json::{self, Names, Object},
    template::template,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((length, rest)) = bytes.split_first_chunk() else { return };
    let (set, wire) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
    let Ok(schema) = Schema::decode(set) else { return };
    let inputs = schema.services().flat_map(|s| s.methods().map(|m| m.input()).collect::<Vec<_>>());
    for desc in schema.pool().all_messages().chain(inputs) {
        let _ = schema.text(desc.full_name());
        let filled = template(&desc, true).to_string();
        let _ = json::message(&desc, Object { text: &filled, line: 1, column: 1 });
        if let Ok(text) = std::str::from_utf8(wire) {
            let _ = json::message(&desc, Object { text, line: 1, column: 1 });
        }
        let Ok(message) = DynamicMessage::decode(desc.clone(), wire) else { continue };
        let text = json::text(&message, Names::Json);
        if let Ok(again) = json::message(&desc, Object { text: &text, line: 1, column: 1 }) {
            // What it takes back is the same on the wire, in the order of a map at least.
            assert_eq!(again.encode_to_vec().len(), again.encoded_len());
        }
    }
});

//! What `just fuzz` begins with is what the services take: each method has a seed
//! that names it, and the messages of a seed are requests of its method.

#![allow(clippy::unwrap_used, reason = "a panic is the report")]

#[path = "../../../fuzz/fuzz_targets/seed.rs"]
mod seed;

use std::{collections::BTreeSet, fs, path::Path};

use prost_reflect::DynamicMessage;
use shared_proto::{POOL, method};

#[test]
fn every_method_has_a_seed_and_every_seed_fits_its_method() {
    let mut without: BTreeSet<String> = POOL
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/requests");
    for seed in fs::read_dir(seeds).unwrap() {
        let file = seed.unwrap().path();
        let bytes = fs::read(&file).unwrap();
        let (path, messages) = seed::parse(&bytes).unwrap_or_else(|| panic!("{file:?} names no method"));
        let method = method(path).unwrap_or_else(|| panic!("{file:?}: there is no {path}"));
        assert!(!messages.is_empty(), "{file:?} has no message");
        for message in messages {
            let request = DynamicMessage::decode(method.input(), message);
            let request = request.unwrap_or_else(|error| panic!("{file:?} is not for {path}: {error}"));
            let unknown: Vec<_> = request.unknown_fields().map(|field| field.number()).collect();
            assert!(unknown.is_empty(), "{file:?}: {path} knows no fields {unknown:?}");
        }
        without.remove(path);
    }
    assert!(
        without.is_empty(),
        "fuzz/seeds/requests has none for {without:?}; fuzz/fuzz_targets/seed.rs has the format"
    );
}

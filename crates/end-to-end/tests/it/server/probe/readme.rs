//! The calls that `docs/probe.md` shows are calls that there are.

use prost_reflect::{DescriptorPool, DynamicMessage};

#[test]
fn the_json_of_the_page_is_that_of_the_protos() {
    // With those that any of them may contain.
    let mut pool = DescriptorPool::decode(shared_proto::FILE_DESCRIPTOR_SET).unwrap();
    pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET).unwrap();
    let page = include_str!("../../../../../../docs/probe.md");
    let mut methods = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("grpcurl ")) {
        let (_, rest) = line.split_once(" -d '").unwrap_or_else(|| panic!("no data: {line}"));
        let (json, rest) =
            rest.split_once("' 127.0.0.1:50051 ").unwrap_or_else(|| panic!("no address: {line}"));
        let (service, method) = rest.split_once('/').unwrap();
        let service = pool.get_service_by_name(service).unwrap_or_else(|| panic!("no {service}"));
        let method =
            service.methods().find(|it| it.name() == method).unwrap_or_else(|| panic!("no {method}"));
        let mut messages = 0;
        for value in serde_json::Deserializer::from_str(json).into_iter::<serde_json::Value>() {
            let message = DynamicMessage::deserialize(method.input(), value.unwrap());
            message.unwrap_or_else(|error| panic!("{error}: {line}"));
            messages += 1;
        }
        assert!(messages == 1 || method.is_client_streaming(), "{line}");
        methods.push(method.name().to_owned());
    }
    for method in pool.get_service_by_name("fourmodes.v1.ProbeService").unwrap().methods() {
        assert!(methods.iter().any(|it| it == method.name()), "no call of {}", method.name());
    }
}

//! The mode of each method, from the descriptors.

use std::collections::HashMap;

use grpc_wire::Mode;
use prost_reflect::{DescriptorError, DescriptorPool};

#[derive(Debug)]
pub(crate) struct Methods(HashMap<String, Mode>);

impl Methods {
    pub(crate) fn load() -> Result<Self, DescriptorError> {
        let mut pool = DescriptorPool::new();
        for descriptors in [
            shared_proto::FILE_DESCRIPTOR_SET,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(descriptors)?;
        }
        let services: Vec<_> = pool.services().collect();
        let methods = services.iter().flat_map(|service| {
            service.methods().map(move |method| {
                (format!("/{}/{}", service.full_name(), method.name()), shared_proto::mode_of(&method))
            })
        });
        Ok(Self(methods.collect()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, Mode)> {
        self.0.iter().map(|(path, mode)| (path.as_str(), *mode))
    }

    /// `None` for a path that names no method of this server.
    pub(crate) fn mode(&self, path: &str) -> Option<Mode> {
        self.0.get(path).copied()
    }
}

/// Of health or reflection: it is about the server, and not one of its jobs.
pub(crate) fn is_about_the_server(path: &str) -> bool {
    path.starts_with("/grpc.health.") || path.starts_with("/grpc.reflection.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_are_not_ours_are_known_too() {
        let methods = Methods::load().unwrap();
        assert_eq!(methods.mode("/fourmodes.v1.BidiStreamingService/Chat"), Some(Mode::BidiStreaming));
        assert_eq!(methods.mode("/grpc.health.v1.Health/Watch"), Some(Mode::ServerStreaming));
        let reflection = "ServerReflection/ServerReflectionInfo";
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.{reflection}");
            assert_eq!(methods.mode(&path), Some(Mode::BidiStreaming), "{path}");
        }
        assert_eq!(methods.mode("/grpc.health.v1.Health/Nothing"), None);
    }
}

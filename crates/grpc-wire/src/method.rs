//! Methods by their descriptors.

use prost_reflect::{DescriptorPool, MethodDescriptor};

use crate::Mode;

/// The method that a request path such as `/package.Service/Method` names.
pub fn method_in(pool: &DescriptorPool, path: &str) -> Option<MethodDescriptor> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    pool.get_service_by_name(service)?.methods().find(|candidate| candidate.name() == method)
}

/// The mode of a method.
pub fn mode_of(method: &MethodDescriptor) -> Mode {
    Mode::of(method.is_client_streaming(), method.is_server_streaming())
}

//! The descriptors that are known, which may become more while calls are drawn.

use std::sync::{Arc, PoisonError, RwLock};

use prost_reflect::{DescriptorPool, MethodDescriptor};

/// Descriptors of several origins. A clone has the same.
#[derive(Debug, Clone, Default)]
pub struct Pools(Arc<RwLock<Vec<DescriptorPool>>>);

impl Pools {
    /// Adds more. Those that came first count, where several have a service.
    pub fn add(&self, pool: DescriptorPool) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).push(pool);
    }

    /// Whether they have a service.
    pub fn has(&self, service: &str) -> bool {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().any(|pool| pool.get_service_by_name(service).is_some())
    }

    /// The method that a path such as `/package.Service/Method` names.
    pub(crate) fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().find_map(|pool| grpc_wire::method_in(pool, path))
    }
}

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

    /// The names of all services.
    pub fn services(&self) -> Vec<String> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let services = pools.iter().flat_map(DescriptorPool::services);
        services.map(|service| service.full_name().to_owned()).collect()
    }

    /// The methods of services, as far as these are known.
    pub fn methods_of(&self, services: &[String]) -> Vec<MethodDescriptor> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let known = |name: &String| pools.iter().find_map(|pool| pool.get_service_by_name(name));
        let methods = services.iter().filter_map(known).map(|service| service.methods().collect::<Vec<_>>());
        methods.flatten().collect()
    }

    /// The method that a path such as `/package.Service/Method` names.
    pub fn method(&self, path: &str) -> Option<MethodDescriptor> {
        let pools = self.0.read().unwrap_or_else(PoisonError::into_inner);
        pools.iter().find_map(|pool| grpc_wire::method_in(pool, path))
    }
}

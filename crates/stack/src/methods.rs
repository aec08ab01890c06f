//! The properties of each method: its mode, from the descriptors, and the rule for its
//! path.

use std::{collections::HashMap, sync::Arc};

use grpc_wire::{Mode, mode_of};
use prost_reflect::DescriptorPool;

use crate::{
    activity::Activity,
    lines::Lines,
    metrics::{MethodMetrics, Metrics},
};

/// Applies to calls whose path begins with a prefix.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rule {
    /// Which callers may make these calls.
    pub access: Access,
    /// The mode that a caller's token has to include, if it differs from the method's:
    /// a query about an upload is for callers that may upload.
    pub mode: Option<Mode>,
    /// The longest message of a client, in bytes. By default it depends on the method's
    /// mode: see [`Limits`](crate::Limits).
    pub max_message: Option<u32>,
    /// Whether streams may be silent without limit, such as one that reports only
    /// problems.
    pub quiet: bool,
}

/// Which callers may make a call, on a server with a file of tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Access {
    /// A caller whose token includes the mode of the rule or, by default, of the
    /// method.
    #[default]
    Mode,
    /// A caller with any token.
    Token,
    /// Everyone.
    Everyone,
}

/// Rules by path prefix.
#[derive(Debug, Default)]
pub(crate) struct Rules(Vec<(String, Rule)>);

impl Rules {
    pub(crate) fn add(&mut self, prefix: &str, rule: Rule) {
        self.0.push((prefix.to_owned(), rule));
    }

    /// The rule of the longest prefix. Of two rules for one prefix, the later one
    /// applies.
    fn of(&self, path: &str) -> Rule {
        let rules = self.0.iter().filter(|(prefix, _)| path.starts_with(prefix));
        rules.max_by_key(|(prefix, _)| prefix.len()).map(|(_, rule)| *rule).unwrap_or_default()
    }
}

/// A method, or a path that names none.
#[derive(Debug)]
pub(crate) struct Method {
    /// `None` for a path that is not in the descriptors.
    pub(crate) mode: Option<Mode>,
    pub(crate) rule: Rule,
    pub(crate) activity: Arc<Activity>,
    /// `None` if metrics are off.
    pub(crate) metrics: Option<Arc<MethodMetrics>>,
    pub(crate) lines: Arc<Lines>,
}

/// All methods in the descriptors.
#[derive(Debug)]
pub(crate) struct Methods {
    known: HashMap<String, Arc<Method>>,
    rules: Rules,
    activity: Arc<Activity>,
    /// The metrics of all unknown methods together.
    unknown: Option<Arc<MethodMetrics>>,
    /// The lines of all unknown methods together.
    lines: Arc<Lines>,
}

impl Methods {
    /// If `metrics` is set, the calls of each method are counted separately.
    pub(crate) fn new(
        pool: &DescriptorPool,
        rules: Rules,
        activity: Arc<Activity>,
        metrics: Option<&Metrics>,
    ) -> Self {
        let services: Vec<_> = pool.services().collect();
        let methods = services.iter().flat_map(|service| service.methods());
        let known = methods.map(|method| {
            let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
            let mode = mode_of(&method);
            let method = Method {
                mode: Some(mode),
                rule: rules.of(&path),
                activity: activity.clone(),
                metrics: metrics.map(|metrics| metrics.of(&path, Some(mode))),
                lines: Lines::of(&path),
            };
            (path, Arc::new(method))
        });
        let known = known.collect();
        let unknown = metrics.map(|metrics| metrics.of("/unknown/unknown", None));
        Self { known, rules, activity, unknown, lines: Lines::of("unknown methods") }
    }

    pub(crate) fn of(&self, path: &str) -> Arc<Method> {
        self.known.get(path).cloned().unwrap_or_else(|| {
            let (activity, metrics) = (self.activity.clone(), self.unknown.clone());
            let lines = self.lines.clone();
            Arc::new(Method { mode: None, rule: self.rules.of(path), activity, metrics, lines })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn methods(rules: Rules) -> Methods {
        let mut pool = DescriptorPool::new();
        for descriptors in [
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            pool.decode_file_descriptor_set(descriptors).unwrap();
        }
        Methods::new(&pool, rules, Arc::default(), None)
    }

    #[test]
    fn the_mode_of_a_method_is_that_of_its_descriptor() {
        let methods = methods(Rules::default());
        assert_eq!(methods.of("/grpc.health.v1.Health/Check").mode, Some(Mode::Unary));
        assert_eq!(methods.of("/grpc.health.v1.Health/Watch").mode, Some(Mode::ServerStreaming));
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            assert_eq!(methods.of(&path).mode, Some(Mode::BidiStreaming), "{path}");
        }
        assert_eq!(methods.of("/grpc.health.v1.Health/Nothing").mode, None);
    }

    #[test]
    fn the_rule_with_the_longest_prefix_holds_and_of_two_the_later_one() {
        let mut rules = Rules::default();
        let quiet = Rule { quiet: true, ..Rule::default() };
        let open = Rule { access: Access::Everyone, ..Rule::default() };
        let short = Rule { max_message: Some(1), ..Rule::default() };
        rules.add("/grpc.health.v1.Health/", quiet);
        rules.add("/grpc.", quiet);
        rules.add("/grpc.", open);
        rules.add("/grpc.health.v1.Health/Watch", short);
        let methods = methods(rules);
        for (path, rule) in [
            ("/grpc.health.v1.Health/Watch", short),
            ("/grpc.health.v1.Health/Check", quiet),
            ("/grpc.health.v1.Health/Nothing", quiet),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", open),
            ("/grpc", Rule::default()),
        ] {
            assert_eq!(methods.of(path).rule, rule, "{path}");
        }
    }
}

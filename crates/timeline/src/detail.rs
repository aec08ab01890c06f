//! The `google.rpc` messages in a status.

use serde::Serialize;
use tonic_types::ErrorDetails;

/// One of the `google.rpc` messages in a status, in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Detail {
    /// The name of the message.
    #[serde(rename = "type")]
    pub name: &'static str,
    /// The reason in an `ErrorInfo`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// All of it, for people.
    pub text: String,
}

/// Those messages that people can use.
pub fn details(details: &ErrorDetails) -> Vec<Detail> {
    let mut found = Vec::new();
    let mut add = |name, reason: &str, text| found.push(Detail { name, reason: reason.to_owned(), text });
    if let Some(info) = details.error_info() {
        let mut facts: Vec<_> = info.metadata.iter().map(|(key, value)| format!("{key}={value}")).collect();
        facts.sort();
        add("ErrorInfo", &info.reason, format!("{} ({}) {}", info.reason, info.domain, facts.join(" ")));
    }
    for violation in details.bad_request().into_iter().flat_map(|bad| &bad.field_violations) {
        add("BadRequest", "", format!("{}: {}", violation.field, violation.description));
    }
    if let Some(delay) = details.retry_info().and_then(|retry| retry.retry_delay) {
        add("RetryInfo", "", format!("again after {}", humantime::format_duration(delay)));
    }
    for violation in details.quota_failure().into_iter().flat_map(|quota| &quota.violations) {
        add("QuotaFailure", "", format!("{}: {}", violation.subject, violation.description));
    }
    if let Some(resource) = details.resource_info() {
        let text = format!("{} {}: {}", resource.resource_type, resource.resource_name, resource.description);
        add("ResourceInfo", "", text);
    }
    found
}

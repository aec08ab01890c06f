//! Which calls are shown.

use std::{sync::Arc, time::Duration};

use tonic::Code;

/// Which calls are shown: those to which all of it applies.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of these services and methods; of all, when there are none.
    pub only: Arc<[Only]>,
    /// With one of these statuses; with any, when there are none.
    pub status: Vec<Code>,
    /// That take longer.
    pub slower_than: Option<Duration>,
}

/// A service, or one method of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Only {
    service: String,
    method: Option<String>,
}

impl std::str::FromStr for Only {
    type Err = String;

    /// `SERVICE` or `SERVICE/METHOD`. The service may go without its package.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('/');
        let (service, method) = match text.split_once('/') {
            Some((service, method)) => (service, Some(method)),
            None => (text, None),
        };
        if service.is_empty() || method.is_some_and(|method| method.is_empty() || method.contains('/')) {
            return Err("write SERVICE or SERVICE/METHOD, such as UnaryService/Multiply".to_owned());
        }
        Ok(Self { service: service.to_owned(), method: method.map(str::to_owned) })
    }
}

impl Only {
    fn takes(&self, path: &str) -> bool {
        let Some((service, method)) = path.trim_start_matches('/').split_once('/') else { return false };
        let short = service.rsplit('.').next().unwrap_or(service);
        [service, short].contains(&self.service.as_str())
            && self.method.as_ref().is_none_or(|wanted| wanted == method)
    }
}

/// Whether a method is among these; any is, when there are none.
pub(crate) fn takes_path(only: &[Only], path: &str) -> bool {
    only.is_empty() || only.iter().any(|only| only.takes(path))
}

impl Filter {
    pub(crate) fn takes_status(&self, code: Code) -> bool {
        self.status.is_empty() || self.status.contains(&code)
    }

    /// Whether a call that has taken so long is shown, unless its status says otherwise.
    pub(crate) fn takes_time(&self, time: Duration) -> bool {
        self.slower_than.is_none_or(|least| time > least)
    }

    /// Whether a call can be shown before its end.
    pub(crate) fn is_live(&self) -> bool {
        self.status.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.only.is_empty() && self.status.is_empty() && self.slower_than.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_and_methods_are_named_with_or_without_their_package() {
        let takes = |only: &str, path| only.parse::<Only>().unwrap().takes(path);
        for only in ["a.b.C", "C", "a.b.C/D", "C/D", "/a.b.C/D"] {
            assert!(takes(only, "/a.b.C/D"), "{only}");
        }
        for only in ["b.C", "D", "a.b.C/E", "C/DD", "a.b.CC"] {
            assert!(!takes(only, "/a.b.C/D"), "{only}");
        }
        for wrong in ["", "/", "C/", "C/D/E"] {
            assert!(wrong.parse::<Only>().is_err(), "{wrong}");
        }
    }
}

//! One request, one response.

pub(crate) mod cancel;
pub(crate) mod files;
pub(crate) mod multiply;
pub(crate) mod status;
pub(crate) mod submit;
pub(crate) mod task;

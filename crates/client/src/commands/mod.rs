//! The commands that are no scenario, a thin file each: the options, and the request
//! that they become to the library that does the work.

pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod complete;
pub(crate) mod measure;
pub(crate) mod net_rpc;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod show;
pub(crate) mod watch;

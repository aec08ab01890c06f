//! What the state needs of the machine: files, and threads that wait for them.
//!
//! With the feature `simulation` it is a machine that exists in one test only,
//! whose power fails when the test says so: all that goes by way of here then
//! follows from one seed.

#[cfg(not(feature = "simulation"))]
mod real;
#[cfg(feature = "simulation")]
pub mod simulated;

#[cfg(not(feature = "simulation"))]
pub use real::*;
#[cfg(feature = "simulation")]
pub use simulated::*;

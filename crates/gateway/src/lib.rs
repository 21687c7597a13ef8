//! The on-premises part: the host, which talks to the service and never calls a driver, and the worker, which runs
//! one job with the drivers and never talks to the service.

pub mod host;
pub mod worker;

//! Documents in, jobs out: the two dialects, validation, secrets in documents, expressions and binding. Pure: no
//! I/O, no clock, no state. Nothing past [`bind`] knows version 1 from version 2 or an expression from a value.

mod bind;
mod connection_string;
mod detect;
mod expression;
mod linked_service;
mod member;
mod model;
mod references;
mod secrets;
mod store;
mod types;
mod validate;

pub use bind::{
    ActivityPolicy, BoundActivity, Condition, FactoryContext, Lookup, PARAMETER_TYPES, RunContext, bind,
    pipeline_parameters,
};
pub use detect::{detect, document_name};
pub use linked_service::{gateway_of, seal_binding, store_ref};
pub use model::{Dialect, DocumentKind, Finding, Reference, ReferenceKind, Severity, findings_fault};
pub use references::references;
pub use secrets::{SplitLinkedService, masked, split_secrets, unchanged, with_envelope, without_masks};
pub use validate::validate;

//! Placeholder while the folder is being written.
pub(crate) struct Text;

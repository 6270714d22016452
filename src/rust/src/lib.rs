//! R bindings.

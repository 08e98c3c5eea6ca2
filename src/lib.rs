//! The façade library.

//! kiln-machine

//! kiln-testsuite

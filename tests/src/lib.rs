//! Differential, bare-metal, conformance and end-to-end tests.

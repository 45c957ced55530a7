//! Exclusives and atomic memory operations.

//! Operations and shapes of the Advanced SIMD classes.

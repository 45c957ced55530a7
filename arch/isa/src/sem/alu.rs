//! Data processing on general-purpose registers: immediate and register forms, multiplication, division, flags.

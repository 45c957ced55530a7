//! System registers and instructions, hints, barriers, exception generation.

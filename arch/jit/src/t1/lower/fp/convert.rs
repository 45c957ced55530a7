//! Conversions.
use crate::t1::builder::Builder;
use isa::insn::Insn;
pub fn lower(_: &mut Builder<'_>, _: &Insn) -> bool {
    false
}

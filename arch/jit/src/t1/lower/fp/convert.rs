//! Conversions.
use isa::insn::Insn;
use crate::t1::builder::Builder;
pub fn lower(_: &mut Builder<'_>, _: &Insn) -> bool {
    false
}

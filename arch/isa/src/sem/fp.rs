//! Floating point: primitives and meaning.

use super::{Sem, SemTypes};
use crate::insn::Insn;

/// Primitives of the floating-point instructions. Registers are read and written by [`SemVec`](super::SemVec).
pub trait SemFp: SemTypes {}

/// Executes an instruction of these classes; `None` when it is none.
#[inline]
pub(super) fn execute<S: Sem>(_s: &mut S, _insn: &Insn) -> Option<Result<(), S::Stop>> {
    None
}

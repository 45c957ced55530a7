//! An x86-64 encoder: instructions go in by typed calls, bytes come out, nothing is executed.
//!
//! Two sections, hot and cold, are filled side by side; a label may stand in either and branches between
//! them are resolved by [`Asm::finish`] when both base addresses are known. Integer instructions are methods
//! (`int`), vector instructions are constant descriptors (`vec::ops`) given to few generic methods: VEX where
//! it can, EVEX where it must (registers 16..=31, masks, embedded rounding, EVEX-only instructions).
//! Every form is compared with an independent disassembler in `tests`.

mod bytes;
mod int;
mod reg;
#[cfg(test)]
mod tests;
mod vec;

pub use int::{Alu, Lock, Shift, Unary};
pub use reg::{Cc, Gpr, Mem, Rm, Sz, Xmm};
pub use vec::{BY_WAY_OF, Masking, Rounding, VLen, Vop, ops};

/// Where code goes: `Hot` is the straight line, `Cold` holds exits, misses and fixups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// The expected path.
    Hot = 0,
    /// Everything else.
    Cold = 1,
}

/// A place in the code, bound once, used any number of times before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(u32);

#[derive(Clone, Copy, Debug)]
enum Target {
    Label(Label),
    /// A host address (a thunk).
    Absolute(u64),
}

#[derive(Clone, Copy, Debug)]
struct Fixup {
    section: Section,
    at: u32,
    target: Target,
    short: bool,
}

/// A branch did not fit its encoding.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AsmError {
    /// A label was used and never bound.
    #[error("label {0} is used but not bound")]
    Unbound(u32),
    /// The distance does not fit.
    #[error("branch at offset {at} of section {section:?} spans {distance} bytes, more than its encoding holds")]
    Range {
        /// Section of the branch.
        section: Section,
        /// Offset of its displacement field.
        at: u32,
        /// Distance in bytes.
        distance: i64,
    },
}

/// The encoder's state: two sections, labels, and branches still to resolve.
#[derive(Default, Debug)]
pub struct Asm {
    code: [Vec<u8>; 2],
    current: usize,
    /// Section << 31 | offset, or `UNBOUND`.
    labels: Vec<u32>,
    fixups: Vec<Fixup>,
}

const UNBOUND: u32 = u32::MAX;

impl Asm {
    /// An empty encoder, positioned in the hot section.
    #[must_use]
    pub fn new() -> Asm {
        Asm::default()
    }

    /// Forget all code and labels, keep the allocations.
    pub fn clear(&mut self) {
        self.code[0].clear();
        self.code[1].clear();
        self.current = 0;
        self.labels.clear();
        self.fixups.clear();
    }

    /// Continue in `section`; answers the one that was current.
    pub fn switch(&mut self, section: Section) -> Section {
        let old = self.section();
        self.current = section as usize;
        old
    }

    /// The current section.
    #[must_use]
    #[inline]
    pub fn section(&self) -> Section {
        if self.current == 0 { Section::Hot } else { Section::Cold }
    }

    /// Bytes emitted so far in `section`.
    #[must_use]
    pub fn len_of(&self, section: Section) -> usize {
        self.code[section as usize].len()
    }

    /// Offset of the next byte in the current section.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a fragment is far below 4 GiB")]
    #[inline]
    pub fn offset(&self) -> u32 {
        self.code[self.current].len() as u32
    }

    /// A new label, not bound yet.
    #[expect(clippy::cast_possible_truncation, reason = "a fragment is far below 4 G labels")]
    #[inline]
    pub fn label(&mut self) -> Label {
        self.labels.push(UNBOUND);
        Label(self.labels.len() as u32 - 1)
    }

    /// Bind `label` to the next byte of the current section.
    #[inline]
    pub fn bind(&mut self, label: Label) {
        let here = (self.current as u32) << 31 | self.offset();
        if let Some(slot) = self.labels.get_mut(label.0 as usize) {
            *slot = here;
        }
    }

    /// A label bound here.
    #[inline]
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// Section and offset of a bound label.
    #[must_use]
    #[inline]
    pub fn position(&self, label: Label) -> Option<(Section, u32)> {
        let v = *self.labels.get(label.0 as usize)?;
        (v != UNBOUND).then_some((if v >> 31 == 0 { Section::Hot } else { Section::Cold }, v & 0x7fff_ffff))
    }

    /// One byte.
    #[inline]
    pub fn byte(&mut self, b: u8) {
        self.code[self.current].push(b);
    }

    /// Raw bytes.
    #[inline]
    pub fn bytes(&mut self, b: &[u8]) {
        self.code[self.current].extend_from_slice(b);
    }

    /// Little-endian 32 bits.
    #[inline]
    pub fn half(&mut self, v: u32) {
        self.bytes(&[v as u8, (v >> 8) as u8]);
    }

    /// Four bytes of data.
    #[inline]
    pub fn dword(&mut self, v: u32) {
        self.bytes(&v.to_le_bytes());
    }

    /// Little-endian 64 bits.
    #[inline]
    pub fn qword(&mut self, v: u64) {
        self.bytes(&v.to_le_bytes());
    }

    /// Pad with one long no-operation so that the 4 bytes at `skip` bytes from here do not straddle 4-byte alignment.
    pub fn align_field(&mut self, skip: u32) {
        let pad = (4 - (self.offset() + skip) % 4) % 4;
        self.nop(pad);
    }

    #[inline]
    fn fixup(&mut self, target: Target, short: bool) {
        let section = self.section();
        self.fixups.push(Fixup { section, at: self.offset(), target, short });
        if short {
            self.byte(0);
        } else {
            self.dword(0);
        }
    }

    /// Backward distance to a label already bound in this section, if an instruction of `len` bytes reaches it with rel8.
    fn short_back(&self, label: Label, len: u32) -> Option<u8> {
        let (section, at) = self.position(label)?;
        if section != self.section() {
            return None;
        }
        let distance = i64::from(at) - i64::from(self.offset()) - i64::from(len);
        i8::try_from(distance).ok().map(i8::cast_unsigned)
    }

    /// `jmp label`: rel8 to a near bound label, else rel32.
    pub fn jmp(&mut self, label: Label) {
        if let Some(d) = self.short_back(label, 2) {
            self.bytes(&[0xeb, d]);
        } else {
            self.byte(0xe9);
            self.fixup(Target::Label(label), false);
        }
    }

    /// `jcc label`: rel8 to a near bound label, else rel32.
    pub fn jcc(&mut self, cc: Cc, label: Label) {
        if let Some(d) = self.short_back(label, 2) {
            self.bytes(&[0x70 | cc as u8, d]);
        } else {
            self.bytes(&[0x0f, 0x80 | cc as u8]);
            self.fixup(Target::Label(label), false);
        }
    }

    /// `jmp label` with rel32, 5 bytes whatever the distance.
    pub fn jmp_long(&mut self, label: Label) {
        self.byte(0xe9);
        self.fixup(Target::Label(label), false);
    }

    /// `jmp label` with rel8; the label must be near and in this section.
    pub fn jmp_short(&mut self, label: Label) {
        self.byte(0xeb);
        self.fixup(Target::Label(label), true);
    }

    /// `jcc label` with rel8; the label must be near and in this section.
    pub fn jcc_short(&mut self, cc: Cc, label: Label) {
        self.byte(0x70 | cc as u8);
        self.fixup(Target::Label(label), true);
    }

    /// `jmp rel32` whose displacement field is 4-byte aligned, so that it can be rewritten atomically while it runs.
    /// Answers the offset of the field in the current section.
    pub fn jmp_patchable(&mut self, label: Label) -> u32 {
        self.align_field(1);
        self.byte(0xe9);
        let at = self.offset();
        self.fixup(Target::Label(label), false);
        at
    }

    /// `jcc rel32` with an aligned field; see [`Asm::jmp_patchable`].
    pub fn jcc_patchable(&mut self, cc: Cc, label: Label) -> u32 {
        self.align_field(2);
        self.bytes(&[0x0f, 0x80 | cc as u8]);
        let at = self.offset();
        self.fixup(Target::Label(label), false);
        at
    }

    /// `jmp` to a host address within 2 GiB of the code.
    pub fn jmp_abs(&mut self, address: u64) {
        self.byte(0xe9);
        self.fixup(Target::Absolute(address), false);
    }

    /// `jcc` to a host address within 2 GiB of the code.
    pub fn jcc_abs(&mut self, cc: Cc, address: u64) {
        self.bytes(&[0x0f, 0x80 | cc as u8]);
        self.fixup(Target::Absolute(address), false);
    }

    /// `call` a host address within 2 GiB of the code.
    pub fn call_abs(&mut self, address: u64) {
        self.byte(0xe8);
        self.fixup(Target::Absolute(address), false);
    }

    /// `call label`.
    pub fn call(&mut self, label: Label) {
        self.byte(0xe8);
        self.fixup(Target::Label(label), false);
    }

    /// `lea reg, [rip + label]`.
    pub fn lea_label(&mut self, dst: Gpr, label: Label) {
        self.bytes(&[0x48 | (dst.0 >> 3) << 2, 0x8d, (dst.0 & 7) << 3 | 5]);
        self.fixup(Target::Label(label), false);
    }

    /// Resolve all branches for sections that will run at `hot` and `cold`; the bytes of both.
    ///
    /// # Errors
    /// A label that was never bound, or a branch that does not reach.
    pub fn finish(&mut self, hot: u64, cold: u64) -> Result<(&[u8], &[u8]), AsmError> {
        let base = [hot, cold];
        for f in &self.fixups {
            let to = match f.target {
                Target::Absolute(a) => a,
                Target::Label(l) => {
                    let v = self.labels.get(l.0 as usize).copied().unwrap_or(UNBOUND);
                    if v == UNBOUND {
                        return Err(AsmError::Unbound(l.0));
                    }
                    base[(v >> 31) as usize].wrapping_add(u64::from(v & 0x7fff_ffff))
                }
            };
            let at = f.at as usize;
            let field = if f.short { 1 } else { 4 };
            let from = base[f.section as usize].wrapping_add(at as u64 + field);
            let distance = to.wrapping_sub(from).cast_signed();
            let range = AsmError::Range { section: f.section, at: f.at, distance };
            let code = &mut self.code[f.section as usize];
            if f.short {
                code[at] = i8::try_from(distance).map_err(|_| range)?.cast_unsigned();
            } else {
                let d = i32::try_from(distance).map_err(|_| range)?;
                code[at..at + 4].copy_from_slice(&d.to_le_bytes());
            }
        }
        self.fixups.clear();
        Ok((&self.code[0], &self.code[1]))
    }
}

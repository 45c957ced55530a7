//! Decoded code: one array of instructions per physical page, decoded word by word when it is first executed, dropped when the page's code stamp is stale.

use std::collections::HashMap;

use isa::{Feature, Features, Insn};

use crate::code::CodeStamp;
use crate::config::{self, CpuConfig};
use crate::exception::Syndrome;
use crate::mmu::AccessKind;
use crate::vcpu::{Trap, Vcpu};

/// Pages kept: 64 MiB of decoded code.
const PAGE_LIMIT: usize = 4096;
/// Entries of the table from VA page to decoded page.
const LINKS: usize = 512;

/// A page of decoded instructions. `Insn::Undefined` also stands for "not decoded yet": executing it decodes.
#[derive(Debug)]
struct Page {
    insns: Box<[Insn; 1024]>,
    pa: u64,
    ram_page: usize,
    stamp: CodeStamp,
}

#[derive(Debug, Clone, Copy)]
struct Link {
    /// VA page | context, `u64::MAX` = none.
    tag: u64,
    generation: u64,
    page: u32,
}

const NO_LINK: Link = Link { tag: u64::MAX, generation: 0, page: 0 };

/// Decoded code of one PE.
#[derive(Debug)]
pub(crate) struct CodeCache {
    features: Features,
    pages: Vec<Page>,
    by_pa: HashMap<u64, u32>,
    links: Box<[Link; LINKS]>,
    /// The run loop must look its page up anew before the next instruction.
    pub stale: bool,
}

/// What the ID registers offer, for the decoder.
pub(crate) fn features_of(c: &CpuConfig) -> Features {
    use Feature as F;
    let (isar0, isar1, isar2) = (config::ID_AA64ISAR0, config::ID_AA64ISAR1, config::ID_AA64ISAR2);
    let offered = [
        (F::Crc32, isar0, 16, 1),
        (F::Lse, isar0, 20, 2),
        (F::Lor, config::ID_AA64MMFR1, 16, 1),
        (F::Lrcpc, isar1, 20, 1),
        (F::Lrcpc2, isar1, 20, 2),
        (F::FlagM, isar0, 52, 1),
        (F::FlagM2, isar0, 52, 2),
        (F::Jscvt, isar1, 12, 1),
        (F::Rdm, isar0, 28, 1),
        (F::DotProd, isar0, 44, 1),
        (F::Aes, isar0, 4, 1),
        (F::Pmull, isar0, 4, 2),
        (F::Sha1, isar0, 8, 1),
        (F::Sha256, isar0, 12, 1),
        (F::Pan, config::ID_AA64MMFR1, 20, 1),
        (F::Ssbs, config::ID_AA64PFR1, 4, 2),
        (F::Dit, config::ID_AA64PFR0, 48, 1),
        (F::Wfxt, isar2, 0, 2),
        (F::Sb, isar1, 36, 1),
    ];
    offered.into_iter().fold(
        Features::NONE,
        |set, (feature, register, shift, least)| {
            if c.id_field(register, shift) >= least { set.with(feature) } else { set }
        },
    )
}

impl CodeCache {
    pub(crate) fn new(config: &CpuConfig) -> CodeCache {
        CodeCache {
            features: features_of(config),
            pages: Vec::new(),
            by_pa: HashMap::new(),
            links: Box::new([NO_LINK; LINKS]),
            stale: true,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.pages.clear();
        self.by_pa.clear();
        self.links.fill(NO_LINK);
        self.stale = true;
    }

    /// A decoded instruction of a page number that [`Vcpu::fetch_page`] gave.
    #[inline(always)]
    pub(crate) fn insn(&self, page: u32, pc: u64) -> Insn {
        match self.pages.get(page as usize) {
            Some(p) => p.insns[(pc >> 2) as usize & 1023],
            None => Insn::Undefined,
        }
    }
}

impl Vcpu {
    /// The current code page must be looked up anew.
    #[inline]
    pub(crate) fn fetch_stale(&mut self) {
        self.code.stale = true;
    }

    /// Code was invalidated by this PE.
    pub(crate) fn code_dropped(&mut self) {
        self.counters.code_invalidations += 1;
        self.fetch_stale();
    }

    /// Features that the decoder offers.
    pub fn isa_features(&self) -> Features {
        self.code.features
    }

    /// The decoded page of the instruction at `pc`.
    ///
    /// # Errors
    /// An instruction abort was raised.
    #[inline]
    pub(crate) fn fetch_page(&mut self, pc: u64) -> Result<u32, Trap> {
        let tag = pc & !0xfff | u64::from(self.tlb.context(pc));
        let link = self.code.links[(pc >> 12) as usize & (LINKS - 1)];
        if link.tag == tag
            && link.generation == self.tlb.generation
            && let Some(p) = self.code.pages.get(link.page as usize)
            && self.vm.code.is_current(p.ram_page, p.stamp)
        {
            return Ok(link.page);
        }
        self.fetch_page_slow(pc, tag)
    }

    #[cold]
    fn fetch_page_slow(&mut self, pc: u64, tag: u64) -> Result<u32, Trap> {
        let t = match self.translate(pc, AccessKind::Execute, self.privilege()) {
            Ok(t) => t,
            Err(fault) => return Err(self.raise(Syndrome::instruction_abort(fault, pc))),
        };
        let pa = t.pa & !0xfff;
        let Some(ram_page) = self.vm.ram.page_index(pa) else {
            // Instruction fetch from a device or from nowhere.
            return Err(self.raise(Syndrome::instruction_abort(crate::mmu::Fault::External, pc)));
        };
        let page = match self.code.by_pa.get(&pa).copied() {
            Some(page) => {
                let p = &mut self.code.pages[page as usize];
                if !self.vm.code.is_current(ram_page, p.stamp) {
                    p.stamp = self.vm.code.begin(ram_page);
                    p.insns.fill(Insn::Undefined);
                    self.counters.pages_decoded += 1;
                }
                page
            }
            None => {
                if self.code.pages.len() >= PAGE_LIMIT {
                    self.code.clear();
                }
                let page = self.code.pages.len() as u32;
                let stamp = self.vm.code.begin(ram_page);
                self.code.pages.push(Page { insns: Box::new([Insn::Undefined; 1024]), pa, ram_page, stamp });
                self.code.by_pa.insert(pa, page);
                self.counters.pages_decoded += 1;
                page
            }
        };
        self.code.links[(pc >> 12) as usize & (LINKS - 1)] = Link { tag, generation: self.tlb.generation, page };
        Ok(page)
    }

    /// Decodes the word at `pc` of a page: for words that stand as `Undefined`.
    #[cold]
    pub(crate) fn decode_at(&mut self, page: u32, pc: u64) -> Insn {
        let Some(p) = self.code.pages.get_mut(page as usize) else { return Insn::Undefined };
        let word = self.vm.ram.read_code_word(p.pa | pc & 0xffc).unwrap_or(0);
        let insn = isa::decode(word, self.code.features);
        p.insns[(pc >> 2) as usize & 1023] = insn;
        insn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn max_offers_everything_and_old_cores_less() {
        assert_eq!(features_of(&CpuConfig::max()), Features::ALL);
        let a72 = features_of(&CpuConfig::by_name("cortex-a72").unwrap());
        assert!(!a72.has(Feature::Lse) && a72.has(Feature::Aes) && a72.has(Feature::Crc32) && !a72.has(Feature::Pan));
    }
}

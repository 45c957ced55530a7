//! Registers of the Scalable Vector Extension: vectors, predicates, and how long they are. Saved as they are; only a host
//! with vectors of the same lengths takes them over.

use std::collections::BTreeMap;

use kvm_bindings::RegList;

use super::registers;
use super::state::{MAX_REGISTERS, Registers};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.filter(|pair| pair.len() == 2)?, 16).ok()).collect()
}

impl Registers<'_> {
    /// The lower 128 bits of Z`n`: with SVE the kernel has no other way to V`n`.
    pub(super) fn get_z(&self, n: u64) -> Result<[u64; 2], kvm_ioctls::Error> {
        let mut bytes = [0u8; registers::Z_BYTES];
        self.0.get_one_reg(registers::z(n), &mut bytes)?;
        let (words, _) = bytes.as_chunks::<8>();
        let word = |index: usize| words.get(index).copied().map_or(0, u64::from_le_bytes);
        Ok([word(0), word(1)])
    }

    /// Sets V`n` by way of Z`n`, whose upper bits become zero, as when an instruction writes V`n`.
    pub(super) fn set_z(&self, n: u64, [low, high]: [u64; 2]) -> Result<(), kvm_ioctls::Error> {
        let mut bytes = [0u8; registers::Z_BYTES];
        let value = u128::from(low) | u128::from(high) << 64;
        bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(to, from)| *to = from);
        self.0.set_one_reg(registers::z(n), &bytes).map(drop)
    }

    /// All of them by number; none on a vCPU without SVE.
    pub(super) fn read_sve(&self) -> Result<BTreeMap<String, String>, String> {
        let mut list = RegList::new(MAX_REGISTERS).map_err(|e| format!("no list of registers: {e:?}"))?;
        self.0.get_reg_list(&mut list).map_err(|e| format!("the kernel does not give its list of registers: {e}"))?;
        let sve = list.as_slice().iter().copied().filter(|id| registers::is_sve(*id));
        sve.map(|id| Ok((format!("{id:#x}"), hex(&self.get_sve(id)?)))).collect()
    }

    fn get_sve(&self, id: u64) -> Result<Vec<u8>, String> {
        let mut bytes = vec![0; registers::bytes(id)];
        self.0.get_one_reg(id, &mut bytes).map_err(|e| format!("the kernel does not give register {id:#x}: {e}"))?;
        Ok(bytes)
    }

    /// Sets what [`Registers::read_sve`] gave. After all else: it has whole vectors.
    pub(super) fn write_sve(&self, saved: &BTreeMap<String, String>) -> Result<(), String> {
        for (name, text) in saved {
            let id = name.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            let id = id.filter(|id| registers::is_sve(*id)).ok_or_else(|| format!("{name:?} is no register of SVE"))?;
            let bytes = unhex(text).filter(|bytes| bytes.len() == registers::bytes(id));
            let bytes = bytes.ok_or_else(|| format!("register {name} has another length"))?;
            // What is fixed, the lengths of vectors, has to be equal.
            if self.get_sve(id)? != bytes {
                self.0.set_one_reg(id, &bytes).map_err(|e| {
                    format!("the kernel does not take SVE register {name} (saved on a host with other vectors?): {e}")
                })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_text_and_back() {
        assert_eq!(hex(&[0, 0xa5, 0xff]), "00a5ff");
        assert_eq!(unhex("00a5ff"), Some(vec![0, 0xa5, 0xff]));
        assert_eq!((unhex("0"), unhex("0g"), unhex("é"), unhex("")), (None, None, None, Some(vec![])));
    }
}

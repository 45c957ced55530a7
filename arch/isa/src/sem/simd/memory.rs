//! Meaning of the loads and stores of SIMD&FP registers: single registers, pairs, and structures of elements.
//!
//! The base register is written back only after every access has succeeded, and loads read everything before they write a register: a
//! fault in the middle leaves all registers as they were.

use crate::insn::{Insn, Reg};
use crate::operand::{AddrMode, Extend, LoadExt};
use crate::sem::Sem;
use crate::sem::memory::{address_and_base, base, register_address, write_back};
use crate::simd::{ESize, VecWidth};

/// Executes `insn` if it is of these classes; `None` else.
#[inline(always)]
pub(super) fn execute<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    Some(match *insn {
        Insn::SimdLoadImm { width, mode, rt, rn, offset } => indexed(s, mode, rn, offset, |s, address| {
            let value = s.vec_load(address, width, width)?;
            s.set_v(rt, value);
            Ok(())
        }),
        Insn::SimdStoreImm { width, mode, rt, rn, offset } => indexed(s, mode, rn, offset, |s, address| {
            let value = s.v(rt);
            s.vec_store(address, width, width, value)
        }),
        Insn::SimdLoadReg { width, extend, shift, rt, rn, rm } => {
            register_offset(s, extend, shift, rn, rm, |s, address| {
                let value = s.vec_load(address, width, width)?;
                s.set_v(rt, value);
                Ok(())
            })
        }
        Insn::SimdStoreReg { width, extend, shift, rt, rn, rm } => {
            register_offset(s, extend, shift, rn, rm, |s, address| {
                let value = s.v(rt);
                s.vec_store(address, width, width, value)
            })
        }
        Insn::SimdLoadLiteral { width, rt, offset } => literal(s, width, rt, offset),
        Insn::SimdLoadPair { width, mode, rt, rt2, rn, offset } => indexed(s, mode, rn, offset.into(), |s, address| {
            let second = s.add_const(address, width.bytes().into());
            let low = s.vec_load(address, width, width)?;
            let high = s.vec_load(second, width, width)?;
            s.set_v(rt, low);
            s.set_v(rt2, high);
            Ok(())
        }),
        Insn::SimdStorePair { width, mode, rt, rt2, rn, offset } => {
            indexed(s, mode, rn, offset.into(), |s, address| {
                let second = s.add_const(address, width.bytes().into());
                let (low, high) = (s.v(rt), s.v(rt2));
                s.vec_store(address, width, width, low)?;
                s.vec_store(second, width, width, high)
            })
        }
        _ => return structures(s, insn),
    })
}

fn structures<S: Sem>(s: &mut S, insn: &Insn) -> Option<Result<(), S::Stop>> {
    Some(match *insn {
        Insn::VecLoadMultiple { es, width, structure, registers, post, rt, rn, rm } => {
            let bytes = width.bytes() * u32::from(registers);
            post_indexed(s, post, rn, rm, bytes, |s, address| {
                load_multiple(s, es, width, structure, registers, rt, address)
            })
        }
        Insn::VecStoreMultiple { es, width, structure, registers, post, rt, rn, rm } => {
            let bytes = width.bytes() * u32::from(registers);
            post_indexed(s, post, rn, rm, bytes, |s, address| {
                store_multiple(s, es, width, structure, registers, rt, address)
            })
        }
        Insn::VecLoadSingle { es, index, structure, post, rt, rn, rm } => {
            post_indexed(s, post, rn, rm, es.bytes() * u32::from(structure), |s, address| {
                let mut values = [s.vec_const(0); 4];
                for (i, value) in places(structure, &mut values) {
                    let x = load_element(s, es, address, i)?;
                    let old = s.v((rt + i) & 31);
                    *value = s.vec_with_element(es, old, index, x);
                }
                write_all(s, rt, structure, values);
                Ok(())
            })
        }
        Insn::VecStoreSingle { es, index, structure, post, rt, rn, rm } => {
            post_indexed(s, post, rn, rm, es.bytes() * u32::from(structure), |s, address| {
                for i in 0..structure {
                    let v = s.v((rt + i) & 31);
                    let x = s.vec_element(es, v, index, LoadExt::Zero);
                    let place = s.add_const(address, i64::from(i) * i64::from(es.bytes()));
                    let v = s.vec_from_x(es, x);
                    s.vec_store(place, es.scalar(), es.scalar(), v)?;
                }
                Ok(())
            })
        }
        Insn::VecLoadReplicate { es, width, structure, post, rt, rn, rm } => {
            post_indexed(s, post, rn, rm, es.bytes() * u32::from(structure), |s, address| {
                let mut values = [s.vec_const(0); 4];
                for (i, value) in places(structure, &mut values) {
                    let x = load_element(s, es, address, i)?;
                    *value = s.vec_duplicate(es, width, x);
                }
                write_all(s, rt, structure, values);
                Ok(())
            })
        }
        _ => return None,
    })
}

/// The first `count` places of an array for up to four registers, numbered.
fn places<V>(count: u8, values: &mut [V; 4]) -> impl Iterator<Item = (u8, &mut V)> {
    (0..count).zip(values)
}

fn write_all<S: Sem>(s: &mut S, rt: Reg, count: u8, mut values: [S::V; 4]) {
    for (i, value) in places(count, &mut values) {
        s.set_v((rt + i) & 31, *value);
    }
}

fn load_element<S: Sem>(s: &mut S, es: ESize, address: S::X, place: u8) -> Result<S::X, S::Stop> {
    let address = s.add_const(address, i64::from(place) * i64::from(es.bytes()));
    let value = s.vec_load(address, es.scalar(), es.scalar())?;
    Ok(s.vec_element(es, value, 0, LoadExt::Zero))
}

/// A vector of byte numbers, byte 0 lowest.
fn byte_numbers(f: impl Fn(u32) -> u32) -> u128 {
    (0..16).fold(0, |v, i| v | u128::from(f(i) & 0xff) << (8 * i))
}

/// LD1 to LD4 of whole registers. De-interleaving is a table look-up over the bytes that were read.
fn load_multiple<S: Sem>(
    s: &mut S,
    es: ESize,
    width: VecWidth,
    structure: u8,
    registers: u8,
    rt: Reg,
    address: S::X,
) -> Result<(), S::Stop> {
    let mut read = [s.vec_const(0); 4];
    for (i, value) in places(registers, &mut read) {
        let address = s.add_const(address, i64::from(i) * i64::from(width.bytes()));
        *value = s.vec_load(address, width, es.scalar())?;
    }
    if structure == 1 {
        write_all(s, rt, registers, read);
        return Ok(());
    }
    let mut values = read;
    for (k, value) in places(structure, &mut values) {
        let index = s.vec_const(byte_numbers(|byte| {
            let (element, part) = (byte / es.bytes(), byte % es.bytes());
            let at = (element * u32::from(structure) + u32::from(k)) * es.bytes() + part;
            at / width.bytes() * 16 + at % width.bytes()
        }));
        let zero = s.vec_const(0);
        let picked = s.vec_table(&read[..usize::from(structure).min(4)], index, zero);
        *value = s.vec_truncate(width, picked);
    }
    write_all(s, rt, structure, values);
    Ok(())
}

/// ST1 to ST4 of whole registers. Interleaving is a table look-up over the registers' bytes.
fn store_multiple<S: Sem>(
    s: &mut S,
    es: ESize,
    width: VecWidth,
    structure: u8,
    registers: u8,
    rt: Reg,
    address: S::X,
) -> Result<(), S::Stop> {
    let sources = [0, 1, 2, 3].map(|i| s.v((rt + i) & 31));
    for i in 0..registers {
        let value = if structure == 1 {
            sources[usize::from(i & 3)]
        } else {
            let index = s.vec_const(byte_numbers(|byte| {
                let at = u32::from(i) * width.bytes() + byte;
                let (element, part) = (at / es.bytes(), at % es.bytes());
                element % u32::from(structure) * 16 + element / u32::from(structure) * es.bytes() + part
            }));
            let zero = s.vec_const(0);
            s.vec_table(&sources[..usize::from(structure).min(4)], index, zero)
        };
        let address = s.add_const(address, i64::from(i) * i64::from(width.bytes()));
        s.vec_store(address, width, es.scalar(), value)?;
    }
    Ok(())
}

/// An access at base plus offset, with the base written back as `mode` says.
#[inline(always)]
fn indexed<S: Sem>(
    s: &mut S,
    mode: AddrMode,
    rn: Reg,
    offset: i32,
    access: impl FnOnce(&mut S, S::X) -> Result<(), S::Stop>,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let (address, new_base) = address_and_base(s, mode, rn, offset.into())?;
    access(s, address)?;
    write_back(s, rn, new_base);
    Ok(())
}

/// An access at the base, which then moves by `bytes` or, unless `rm` is 31, by that register.
#[inline(always)]
fn post_indexed<S: Sem>(
    s: &mut S,
    post: bool,
    rn: Reg,
    rm: Reg,
    bytes: u32,
    access: impl FnOnce(&mut S, S::X) -> Result<(), S::Stop>,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let base = base(s, rn)?;
    access(s, base)?;
    if post {
        let step = if rm == 31 { s.x_const(bytes.into()) } else { s.x(rm) };
        let moved = s.add(base, step);
        s.set_x_sp(rn, moved);
    }
    Ok(())
}

#[inline(always)]
fn register_offset<S: Sem>(
    s: &mut S,
    extend: Extend,
    shift: u8,
    rn: Reg,
    rm: Reg,
    access: impl FnOnce(&mut S, S::X) -> Result<(), S::Stop>,
) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let address = register_address(s, extend, shift, rn, rm)?;
    access(s, address)
}

fn literal<S: Sem>(s: &mut S, width: VecWidth, rt: Reg, offset: i32) -> Result<(), S::Stop> {
    s.check_fp_enabled()?;
    let pc = s.pc();
    let address = s.add_const(pc, offset.into());
    let value = s.vec_load(address, width, width)?;
    s.set_v(rt, value);
    Ok(())
}

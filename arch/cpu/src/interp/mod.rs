//! The interpreter: the oracle of all engines. It executes decoded instructions by the meaning functions of crate `isa`.

mod code;
mod idle;
mod run;
mod sem;
mod vector;

pub(crate) use code::CodeCache;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod hostile;

//! `vmm run`.

use super::RunArgs;
use crate::exit::{ExitStatus, Failure};

/// Runs the command.
pub fn run(args: RunArgs) -> Result<ExitStatus, Failure> {
    Err(Failure::internal(format!("this version cannot start a machine yet ({} vCPUs were asked for)", args.cpus)))
}

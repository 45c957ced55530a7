//! The virtual machine monitor: command line, machine assembly, engines, vCPU threads, reports.

// The state that the boot protocol promises, PSCI's answers, and what an unmapped address does.
#include "guest.h"

int main(void) {
    u64 fdt = boot_registers[0];
    if (fdt) { // an ELF program gets the device tree as a kernel does
        check_eq(fdt & 7, 0, "FDT alignment");
        check_eq(__builtin_bswap32(*(u32 *)fdt), 0xd00dfeed, "FDT magic");
    }
    check_eq(boot_registers[1] | boot_registers[2] | boot_registers[3], 0, "x1-x3");
    check_eq(boot_registers[4], 1 << 2, "CurrentEL is EL1");
    check_eq(boot_registers[5] & 0x3c0, 0x3c0, "DAIF masked");
    check_eq(boot_registers[6] & 0x1005, 0, "MMU and caches off");
    check_eq(boot_registers[7], 1, "SPSel");

    u64 version = hvc(PSCI_VERSION, 0, 0, 0);
    check(version >= 0x10000, "PSCI at least 1.0");
    check_eq(hvc(PSCI_FEATURES, PSCI_CPU_ON, 0, 0), 0, "PSCI_FEATURES(CPU_ON)");
    check_eq((u32)hvc(PSCI_FEATURES, 0xdeadbeef, 0, 0), (u32)-1, "PSCI_FEATURES of nothing");
    check_eq((u32)hvc(0x8400ffff, 0, 0, 0), (u32)-1, "unknown function");
    check_eq(hvc(PSCI_AFFINITY_INFO, 0, 0, 0), 0, "AFFINITY_INFO of this CPU is ON");
    check_eq((int)hvc(PSCI_AFFINITY_INFO, 0xffff, 0, 0), -2, "AFFINITY_INFO of no CPU");
    check_eq((int)hvc(PSCI_CPU_ON, 0, 0x40200000, 0), -4, "CPU_ON of a running CPU: ALREADY_ON");
    check_eq((int)hvc(PSCI_CPU_ON, 0xff0000, 0x40200000, 0), -2, "CPU_ON of no CPU: INVALID_PARAMETERS");

    expect_exception(0x25, "load from nothing", (void)mmio32(0x0f000000));
    check_eq(seen.esr & 0x3f, 0x10, "synchronous external abort");
    check_eq(seen.far, 0x0f000000, "FAR of the abort");
    expect_exception(0x25, "store to nothing", mmio32(0x0f000004) = 1);
    check_eq(seen.esr & (1 << 6), 1 << 6, "WnR");

    check_eq(mmio32(UART + 0xfe0), 0x11, "PL011 peripheral id 0");
    check_eq(mmio32(UART + 0xff0), 0x0d, "PrimeCell id 0");
    check_eq(mmio32(0x09010fe0), 0x31, "PL031 peripheral id 0");
    check(mmio32(0x09010000) > 1700000000, "PL031 knows the date");
    check_eq(mmio32(0x09030fe0), 0x61, "PL061 peripheral id 0");
    check_eq(read_sysreg(midr_el1) != 0, 1, "MIDR");
    check_eq(read_sysreg(cntfrq_el0) >= 1000000, 1, "CNTFRQ");
    check(read_sysreg(id_aa64pfr0_el1) & 0xff, "EL0 and EL1 exist");
    finish();
}

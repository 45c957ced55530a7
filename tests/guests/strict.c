// What the architecture asks and QEMU leaves out; not run on QEMU.
#include "guest.h"

extern char el0_sp[];
asm(".text\nel0_sp:\n mov x9, sp\n sub sp, sp, #8\n ldr x0, [sp]\n mov sp, x9\n svc #0x42\n b .\n");
static u8 el0_stack[8192] __attribute__((aligned(4096)));

static void from_el0(u64 vector, struct frame *f) {
    if (EC(f->esr) == 0x15 && (f->esr & 0xffff) == 0x42) leave_el0(f->x[0]);
    skip_instruction(vector, f);
}

int main(void) {
    mmu_on();
    u64 attributes = PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF | PTE_USER | PTE_NG | PTE_PXN;
    u64 text = (u64)el0_sp & ~0xffful;
    mmu_map(TEST_VA, text, attributes | PTE_RO);
    mmu_map(TEST_VA + 0x10000, (u64)el0_stack, attributes | PTE_UXN);
    mmu_map(TEST_VA + 0x11000, (u64)el0_stack + 4096, attributes | PTE_UXN);
    write_sysreg(read_sysreg(sctlr_el1) | 1 << 4, sctlr_el1); // SA0
    isb();
    on_sync = from_el0;
    seen.count = 0;
    enter_el0(TEST_VA + ((u64)el0_sp - text), TEST_VA + 0x11000, 0, 0);
    check_eq(seen.count, 1, "load below a misaligned SP with SA0");
    check_eq(EC(seen.esr), 0x26, "SP alignment: EC");
    write_sysreg(read_sysreg(sctlr_el1) & ~(1ul << 4), sctlr_el1);
    isb();
    seen.count = 0;
    enter_el0(TEST_VA + ((u64)el0_sp - text), TEST_VA + 0x11000, 0, 0);
    check_eq(seen.count, 0, "load below a misaligned SP without SA0");
    finish();
}

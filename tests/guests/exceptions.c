// Synchronous exceptions: class, syndrome, return address, and what each one leaves in PSTATE.
#include "guest.h"

static volatile u64 result;
static void from_el0(u64 vector, struct frame *f) {
    if (EC(f->esr) == 0x15 && (f->esr & 0xffff) == 0x42) leave_el0(f->x[0]);
    skip_instruction(vector, f);
}
#define EL0(name, body)                                                                                                \
    extern char name[];                                                                                                \
    asm(".text\n" #name ":\n" body "\n svc #0x42\n b .\n")
EL0(el0_svc, "svc #7");
EL0(el0_msr, "msr vbar_el1, x0");
EL0(el0_daif, "msr daifset, #2");
EL0(el0_ctr, "mrs x0, ctr_el0");
EL0(el0_zva, "dc zva, x0");
EL0(el0_ivau, "ic ivau, x0");
EL0(el0_wfi, "wfi");
EL0(el0_fp, "fmov d0, x0");
EL0(el0_hvc, "hvc #0");
EL0(el0_cntvct, "mrs x0, cntvct_el0");
EL0(el0_flags, "mov x0, #-1\n msr nzcv, x0\n mrs x0, nzcv");
EL0(el0_id, "mrs x0, midr_el1");
static u8 el0_stack[8192] __attribute__((aligned(4096)));

static void instructions(void) {
    expect_exception(0x15, "SVC", asm volatile("svc #0x1234" ::: "memory"));
    check_eq(seen.esr & 0xffff, 0x1234, "SVC immediate");
    check_eq(seen.esr >> 25 & 1, 1, "SVC IL");
    check_eq(seen.vector, 4, "SVC vector: current EL with SP_ELx");
    expect_exception(0x3c, "BRK", asm volatile("brk #0x55" ::: "memory"));
    check_eq(seen.esr & 0xffff, 0x55, "BRK immediate");
    expect_exception(0x00, "UDF", asm volatile(".inst 0x00000000" ::: "memory"));
    check_eq(seen.esr, 1ul << 25, "undefined ISS");
    expect_exception(0x00, "HLT", asm volatile("hlt #1" ::: "memory"));
    expect_exception(0x00, "unallocated system register", asm volatile("mrs x0, S3_6_C15_C7_7" ::: "x0", "memory"));
    expect_exception(0x00, "write to a read-only register", asm volatile("msr S3_0_C0_C0_0, x0" ::: "memory"));
    expect_none("reserved ID register reads as zero", asm volatile("mrs %0, S3_0_C0_C7_7" : "=r"(result)));
    check_eq(result, 0, "reserved ID register");
}

static void alignment(void) {
    // MMU off: data accesses are Device and must be aligned.
    expect_exception(0x25, "unaligned access to Device memory", asm volatile("ldr w0, [%0]" : : "r"(RAM_BASE + 0x100001) : "x0", "memory"));
    check_eq(seen.esr & 0x3f, 0x21, "alignment fault");
    check_eq(seen.far, RAM_BASE + 0x100001, "alignment FAR");
    expect_exception(0x25, "unaligned exclusive", asm volatile("ldxr x0, [%0]" : : "r"(RAM_BASE + 0x100004) : "x0", "memory"));
    check_eq(seen.esr & 0x3f, 0x21, "alignment fault of an exclusive");
}
EL0(el0_pc, "add x0, x0, #2\n adr x30, 1f\n br x0\n1:");

static void pc_fault(u64 vector, struct frame *f) {
    if (EC(f->esr) == 0x22) {
        skip_instruction(vector, f);
        f->elr = f->x[30];
        return;
    }
    from_el0(vector, f);
}

int main(void) {
    instructions();
    check_eq(seen.count <= 1, 1, "nothing nested");
    on_sync = skip_instruction;
    alignment();

    mmu_on();
    // The EL0 snippets run from a user mapping of this program's own text.
    u64 attributes = PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF | PTE_USER | PTE_NG | PTE_PXN;
    u64 text = (u64)el0_svc & ~0xffful;
    for (u64 i = 0; i < 4; i++) mmu_map(TEST_VA + i * 4096, text + i * 4096, attributes | PTE_RO);
    u64 stack = ((u64)el0_stack) & ~0xffful;
    mmu_map(TEST_VA + 0x10000, stack, attributes | PTE_UXN);
    mmu_map(TEST_VA + 0x11000, stack + 4096, attributes | PTE_UXN);
#define user(f) (TEST_VA + ((u64)(f) - text))
#define run_el0(f, arg) (seen.count = 0, result = enter_el0(user(f), TEST_VA + 0x11000, (arg), 0))
    on_sync = from_el0;

    run_el0(el0_svc, 0);
    check_eq(EC(seen.esr), 0x15, "SVC from EL0");
    check_eq(seen.esr & 0xffff, 7, "SVC from EL0: immediate");
    check_eq(seen.vector, 8, "lower EL vector");
    check_eq(seen.spsr & 0xf, 0, "SPSR says EL0t");
    check_eq(seen.elr, user(el0_svc) + 4, "ELR is the next instruction");
    run_el0(el0_msr, 0);
    check_eq(EC(seen.esr), 0, "EL1 register from EL0 is UNDEFINED");
    run_el0(el0_id, 0);
    check(seen.count <= 1, "ID register from EL0");
    run_el0(el0_daif, 0);
    check_eq(EC(seen.esr), 0x18, "DAIF from EL0 with UMA=0");
    write_sysreg(read_sysreg(sctlr_el1) & ~(1ul << 15 | 1ul << 14 | 1ul << 26 | 1ul << 16 | 1ul << 18), sctlr_el1);
    isb();
    run_el0(el0_ctr, 0);
    check_eq(EC(seen.esr), 0x18, "CTR_EL0 with UCT=0");
    check_eq(seen.esr & 1, 1, "CTR_EL0: direction is read");
    run_el0(el0_zva, TEST_VA + 0x10000);
    check_eq(EC(seen.esr), 0x18, "DC ZVA with DZE=0");
    run_el0(el0_ivau, TEST_VA + 0x10000);
    check_eq(EC(seen.esr), 0x18, "IC IVAU with UCI=0");
    run_el0(el0_wfi, 0);
    check_eq(EC(seen.esr), 0x01, "WFI with nTWI=0");
    write_sysreg(read_sysreg(sctlr_el1) | 1ul << 15 | 1ul << 14 | 1ul << 26, sctlr_el1);
    isb();
    run_el0(el0_ctr, 0);
    check_eq(seen.count, 0, "CTR_EL0 with UCT=1");
    check_eq(result, read_sysreg(ctr_el0), "CTR_EL0 value");
    *(volatile u64 *)(TEST_VA + 0x10000) = 0x1234;
    run_el0(el0_zva, TEST_VA + 0x10000);
    check_eq(seen.count, 0, "DC ZVA with DZE=1");
    check_eq(*(volatile u64 *)(TEST_VA + 0x10000), 0, "DC ZVA cleared");
    run_el0(el0_ivau, TEST_VA + 0x10000);
    check_eq(seen.count, 0, "IC IVAU with UCI=1");
    run_el0(el0_hvc, 0);
    check_eq(EC(seen.esr), 0, "HVC from EL0 is UNDEFINED");
    write_sysreg(0, cpacr_el1);
    isb();
    run_el0(el0_fp, 0);
    check_eq(EC(seen.esr), 0x07, "FP at EL0 with FPEN=0");
    seen.count = 0;
    asm volatile("fmov d0, xzr");
    check_eq(seen.count, 1, "FP at EL1 with FPEN=0");
    check_eq(seen.esr, 0x07ul << 26 | 1ul << 25 | 1ul << 24 | 0xeul << 20, "FP trap syndrome");
    write_sysreg(1 << 20, cpacr_el1);
    isb();
    run_el0(el0_fp, 0);
    check_eq(EC(seen.esr), 0x07, "FP at EL0 with FPEN=1");
    write_sysreg(3 << 20, cpacr_el1);
    isb();
    run_el0(el0_fp, 0);
    check_eq(seen.count, 0, "FP at EL0 with FPEN=3");
    write_sysreg(0, cntkctl_el1);
    isb();
    run_el0(el0_cntvct, 0);
    check_eq(EC(seen.esr), 0x18, "CNTVCT from EL0 with EL0VCTEN=0");
    write_sysreg(3, cntkctl_el1);
    isb();
    run_el0(el0_cntvct, 0);
    check_eq(seen.count, 0, "CNTVCT from EL0");
    run_el0(el0_flags, 0);
    check_eq(result, 0xf0000000, "NZCV round trip");
    on_sync = pc_fault;
    run_el0(el0_pc, user(el0_pc));
    check_eq(EC(seen.esr), 0x22, "PC alignment");
    check_eq(seen.far, user(el0_pc) + 2, "PC alignment FAR");
    on_sync = from_el0;

    // Illegal exception return: SPSR says EL2.
    seen.count = 0;
    asm volatile("mrs x9, daif\n adr x10, 1f\n msr elr_el1, x10\n mov x10, #0x3c9\n msr spsr_el1, x10\n eret\n nop\n1: nop\n nop" : : : "x9", "x10", "memory");
    check_eq(EC(seen.esr), 0x0e, "illegal execution state");
    check_eq(seen.spsr >> 20 & 1, 1, "SPSR.IL");
    finish();
}

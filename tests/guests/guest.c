#include "guest.h"

static u32 passed, failed;
static volatile u32 console_lock;

void put(char c) {
    while (mmio32(UART + 0x18) & 0x20) {
    }
    mmio32(UART) = (u8)c;
}
void print(const char *s) {
    while (*s) {
        if (*s == '\n') put('\r');
        put(*s++);
    }
}
void print_hex(u64 v) {
    print("0x");
    int started = 0;
    for (int i = 60; i >= 0; i -= 4) {
        u32 d = (v >> i) & 15;
        if (d || started || i == 0) {
            put(d < 10 ? '0' + d : 'a' + d - 10);
            started = 1;
        }
    }
}
void print_dec(u64 v) {
    char b[24];
    int n = 0;
    do b[n++] = '0' + v % 10;
    while (v /= 10);
    while (n) put(b[--n]);
}
static void verdict(int ok, const char *what, const char *file, int line) {
    if (ok) {
        passed++;
        return;
    }
    failed++;
    print("FAIL ");
    print(what);
    print(" (");
    print(file);
    print(":");
    print_dec(line);
    print(")");
}
int has(u64 field, const char *feature) {
    if (field) return 1;
    print("WITHOUT ");
    print(feature);
    print("\n");
    return 0;
}
void check_at(int ok, const char *what, const char *file, int line) {
    verdict(ok, what, file, line);
    if (!ok) print("\n");
}
void check_eq_at(u64 got, u64 want, const char *what, const char *file, int line) {
    verdict(got == want, what, file, line);
    if (got != want) {
        print(": got ");
        print_hex(got);
        print(", expected ");
        print_hex(want);
        print("\n");
    }
}
u64 failures_so_far(void) { return failed; }
void finish(void) {
    print("RESULT passed=");
    print_dec(passed);
    print(" failed=");
    print_dec(failed);
    print("\n");
    power_off();
}

volatile struct seen seen;
void skip_instruction(u64 vector, struct frame *f) {
    seen.count++;
    seen.vector = vector;
    seen.esr = f->esr;
    seen.far = f->far;
    seen.elr = f->elr;
    seen.spsr = f->spsr;
    f->spsr &= ~(1ul << 20); // or an illegal state would be returned to for ever
    // SVC, HVC and SMC return to the next instruction by themselves.
    if (EC(f->esr) < 0x15 || EC(f->esr) > 0x17) f->elr += 4;
}
static void unexpected(u64 vector, struct frame *f) {
    print("FAIL unexpected exception, vector ");
    print_dec(vector);
    print(" ESR ");
    print_hex(f->esr);
    print(" ELR ");
    print_hex(f->elr);
    print(" FAR ");
    print_hex(f->far);
    print("\n");
    failed++;
    finish();
}
handler on_sync = skip_instruction, on_irq = unexpected, on_fiq = unexpected, on_serror = unexpected;
void on_exception(u64 vector, struct frame *f) {
    switch (vector & 3) {
    case 0: on_sync(vector, f); break;
    case 1: on_irq(vector, f); break;
    case 2: on_fiq(vector, f); break;
    default: on_serror(vector, f); break;
    }
}

u64 hvc(u64 function, u64 a, u64 b, u64 c) {
    register u64 x0 asm("x0") = function;
    register u64 x1 asm("x1") = a;
    register u64 x2 asm("x2") = b;
    register u64 x3 asm("x3") = c;
    asm volatile("hvc #0" : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3) : : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12",
                 "x13", "x14", "x15", "x16", "x17", "memory");
    return x0;
}
void power_off(void) {
    hvc(PSCI_SYSTEM_OFF, 0, 0, 0);
    for (;;) wfi();
}
u64 mpidr_of(u64 cpu) { return (cpu & 15) | (cpu >> 4) << 8; }
u64 cpu_index(void) {
    u64 m = read_sysreg(mpidr_el1);
    return (m & 15) | ((m >> 8) & 0xff) << 4;
}
u64 start_cpu(u64 cpu) { return hvc(PSCI_CPU_ON, mpidr_of(cpu), (u64)secondary_start, cpu); }
__attribute__((weak)) void secondary_main(u64 cpu) { (void)cpu; }

u64 counter(void) {
    isb();
    return read_sysreg(cntvct_el0);
}
void spin_ms(u64 ms) {
    u64 end = counter() + ms * read_sysreg(cntfrq_el0) / 1000;
    while (counter() < end) {
    }
}
void settle(void) {
    dsb();
    isb();
    for (volatile int i = 0; i < 1000; i++) {
    }
}

void gic_init(void) {
    mmio32(GICD) = 0;
    while (mmio32(GICD) & (1u << 31)) {
    }
    u32 lines = (mmio32(GICD + 4) & 31) + 1;
    for (u32 i = 1; i < lines; i++) {
        mmio32(GICD + 0x80 + 4 * i) = ~0u; // group 1
        mmio32(GICD + 0x180 + 4 * i) = ~0u;
        mmio32(GICD + 0x280 + 4 * i) = ~0u;
        mmio32(GICD + 0x380 + 4 * i) = ~0u;
    }
    mmio32(GICD) = 0x10 | 3; // ARE, both groups
}
void gic_init_cpu(u64 cpu) {
    u64 rd = GICR + cpu * GICR_STRIDE, sgi = rd + 0x10000;
    mmio32(rd + 0x14) &= ~2u;
    while (mmio32(rd + 0x14) & 4) {
    }
    mmio32(sgi + 0x80) = ~0u;
    mmio32(sgi + 0x180) = ~0u;
    mmio32(sgi + 0x280) = ~0u;
    mmio32(sgi + 0x380) = ~0u;
    write_icc(7, ICC_SRE);
    isb();
    write_icc(0xff, ICC_PMR);
    write_icc(0, ICC_BPR1);
    write_icc(0, ICC_CTLR);
    write_icc(1, ICC_IGRPEN1);
    isb();
}
void gic_enable(u64 cpu, u32 intid, u8 priority, int enabled) {
    u64 base = intid < 32 ? GICR + cpu * GICR_STRIDE + 0x10000 : GICD;
    mmio8(base + 0x400 + intid) = priority;
    if (intid >= 32) mmio64(GICD + 0x6000 + 8 * intid) = mpidr_of(cpu);
    mmio32(base + (enabled ? 0x100 : 0x180) + 4 * (intid / 32)) = 1u << (intid % 32);
}

static u64 level1[512] __attribute__((aligned(4096)));
static u64 level2_ram[512] __attribute__((aligned(4096)));
static u64 level2_test[512] __attribute__((aligned(4096)));
static u64 level3_test[512] __attribute__((aligned(4096)));
u64 *test_ptes = level3_test;

void mmu_on(void) {
    level1[0] = 0x0 | PTE_DEVICE | PTE_AF | PTE_PXN | PTE_UXN | 1;
    level1[1] = (u64)level2_ram | 3;
    for (u64 i = 0; i < 512; i++) level2_ram[i] = (RAM_BASE + (i << 21)) | PTE_NORMAL | PTE_SH | PTE_AF | 1;
    level1[(TEST_VA >> 30) & 511] = (u64)level2_test | 3;
    level2_test[0] = (u64)level3_test | 3;
    write_sysreg(0x00ff | (0x00ul << 8), mair_el1); // 0 normal write-back, 1 device-nGnRnE
    write_sysreg(25ul | 1ul << 8 | 1ul << 10 | 3ul << 12 | 25ul << 16 | 1ul << 23 | 2ul << 30 | 2ul << 32 | 1ul << 36, tcr_el1);
    write_sysreg(level1, ttbr0_el1);
    asm volatile("dsb sy\n isb\n tlbi vmalle1\n dsb sy\n isb" ::: "memory");
    write_sysreg((read_sysreg(sctlr_el1) | 1ul | 1ul << 2 | 1ul << 12) & ~2ul, sctlr_el1);
    isb();
}
void mmu_map(u64 va, u64 pa, u64 attributes) {
    level3_test[(va >> 12) & 511] = pa | attributes;
    asm volatile("dsb sy\n tlbi vaae1, %0\n dsb sy\n isb" : : "r"(va >> 12 & 0xffffffffffful) : "memory");
}
void mmu_unmap(u64 va) { mmu_map(va, 0, 0); }

// CPU_ON, atomics, exclusives, SGIs between CPUs, broadcast TLBI, CPU_OFF, with every CPU that the machine has.
#include "guest.h"

static volatile u64 counters[3], online, phase, got_sgi[64], stop_at;
static u64 lock_word;
static void take_irq(u64 vector, struct frame *f) {
    (void)vector, (void)f;
    u64 iar = read_icc(ICC_IAR1);
    if (iar >= 1020) return;
    got_sgi[cpu_index()]++;
    write_icc(iar, ICC_EOIR1);
}
static u64 add_exclusive(volatile u64 *p, u64 n) {
    u64 v;
    u32 fail;
    asm volatile("1: ldaxr %0, [%2]\n add %0, %0, %3\n stlxr %w1, %0, [%2]\n cbnz %w1, 1b" : "=&r"(v), "=&r"(fail) : "r"(p), "r"(n) : "memory");
    return v;
}
static void add_lse(volatile u64 *p, u64 n) {
    asm volatile(".arch_extension lse\n ldaddal %1, xzr, [%0]" : : "r"(p), "r"(n) : "memory");
}
static void lock(void) {
    u64 t;
    u32 f;
    asm volatile("1: ldaxr %0, [%2]\n cbnz %0, 1b\n stxr %w1, %3, [%2]\n cbnz %w1, 1b" : "=&r"(t), "=&r"(f) : "r"(&lock_word), "r"(1ul) : "memory");
}
static void unlock(void) { asm volatile("stlr xzr, [%0]" : : "r"(&lock_word) : "memory"); }
#define ROUNDS 20000
static volatile int lse;
static void work(void) {
    for (int i = 0; i < ROUNDS; i++) {
        add_exclusive(&counters[0], 1);
        if (lse) add_lse(&counters[1], 1);
        lock();
        counters[2]++;
        unlock();
    }
}
void secondary_main(u64 cpu) {
    mmu_on();
    gic_init_cpu(cpu);
    gic_enable(cpu, 1, 0x80, 1);
    irq_on();
    add_exclusive(&online, 1);
    while (phase < 1) {
    }
    work();
    add_exclusive(&online, 1);
    while (phase < 2) wfi();
    hvc(PSCI_CPU_OFF, 0, 0, 0);
}
static u64 pages[2][512] __attribute__((aligned(4096)));

int main(void) {
    mmu_on();
    gic_init();
    gic_init_cpu(0);
    on_irq = take_irq;
    u64 cpus = 1;
    while (cpus < 64 && (int)hvc(PSCI_AFFINITY_INFO, mpidr_of(cpus), 0, 0) == 1) cpus++;
    print("CPUS ");
    print_dec(cpus);
    print("\n");
    for (u64 i = 1; i < cpus; i++) check_eq(start_cpu(i), 0, "CPU_ON");
    u64 limit = counter() + 20 * read_sysreg(cntfrq_el0);
    while (online < cpus - 1 && counter() < limit) {
    }
    check_eq(online, cpus - 1, "all CPUs came up");
    lse = has(id_field(id_aa64isar0_el1, 20), "LSE");
    phase = 1;
    work();
    while (online < 2 * (cpus - 1) && counter() < limit) {
    }
    check_eq(counters[0], cpus * ROUNDS, "exclusives");
    if (lse) check_eq(counters[1], cpus * ROUNDS, "LSE");
    check_eq(counters[2], cpus * ROUNDS, "lock");

    // SGI to all but self (IRM), then to each.
    write_icc(1ul << 24 | 1ul << 40, ICC_SGI1R);
    isb();
    limit = counter() + 20 * read_sysreg(cntfrq_el0);
    for (u64 i = 1; i < cpus; i++) {
        while (!got_sgi[i] && counter() < limit) {
        }
        check(got_sgi[i] >= 1, "broadcast SGI");
    }
    check_eq(got_sgi[0], 0, "not to self");

    // A mapping changes under this CPU: the new page is seen after TLBI.
    pages[0][0] = 1, pages[1][0] = 2;
    u64 attributes = PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF | PTE_PXN | PTE_UXN;
    for (int i = 0; i < 100; i++) {
        mmu_map(TEST_VA, (u64)pages[i & 1], attributes);
        if (*(volatile u64 *)TEST_VA != 1 + (i & 1)) check(0, "TLBI broadcast");
    }
    phase = 2;
    write_icc(1ul << 24 | 1ul << 40, ICC_SGI1R);
    limit = counter() + 5 * read_sysreg(cntfrq_el0);
    for (u64 i = 1; i < cpus; i++) {
        while (hvc(PSCI_AFFINITY_INFO, mpidr_of(i), 0, 0) != 1 && counter() < limit) write_icc(1ul << 24 | 1ul << 40, ICC_SGI1R);
        check_eq(hvc(PSCI_AFFINITY_INFO, mpidr_of(i), 0, 0), 1, "CPU_OFF");
    }
    finish();
}

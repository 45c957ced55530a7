// One CPU changes code and mappings, with the maintenance that the architecture asks for, while all others execute and read them.
//
// The writer publishes a generation after each change. A reader notes the generation, looks, notes it again: what it saw must be of a generation between the
// two, or of the one that the writer was just making. Older is stale, and a failure. Pages rotate, so that stale is told from new.
#include "guest.h"

#ifndef ROUNDS
#define ROUNDS 20000
#endif
#ifndef SECONDS
#define SECONDS 1
#endif
#define PAGES 8
#define RETRY 0xffffu
// The upper half maps the same as the lower one.
#define HIGH 0xffffff8000000000ul
#define CODE_ATTRIBUTES (PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF)

static volatile u64 generation, phase, arrived, stop, failures, looks[64], retries[64];
static u64 cpus;
static u32 code[PAGES][1024] __attribute__((aligned(4096)));
static u32 caller_page[1024] __attribute__((aligned(4096)));
static u64 data[PAGES][512] __attribute__((aligned(4096)));

static u64 load_acquire(volatile u64 *p) {
    u64 v;
    asm volatile("ldar %0, [%1]" : "=r"(v) : "r"(p) : "memory");
    return v;
}
static void store_release(volatile u64 *p, u64 v) { asm volatile("stlr %0, [%1]" : : "r"(v), "r"(p) : "memory"); }
static void add(volatile u64 *p, u64 n) {
    asm volatile(".arch_extension lse\n ldaddal %1, xzr, [%0]" : : "r"(p), "r"(n) : "memory");
}
static void clean(const void *p) { asm volatile("dc cvau, %0" : : "r"(p) : "memory"); }
static void invalidate(const void *p) { asm volatile("ic ivau, %0" : : "r"(p) : "memory"); }
static void dsb_ish(void) { asm volatile("dsb ish" ::: "memory"); }
static u32 mov_w0(u32 value) { return 0x52800000 | value << 5; }
#define RET 0xd65f03c0u

static void map_both_halves(void) {
    u64 tcr = read_sysreg(tcr_el1);
    tcr = (tcr & ~(1ul << 23)) | 1ul << 24 | 1ul << 26 | 3ul << 28;
    write_sysreg(read_sysreg(ttbr0_el1), ttbr1_el1);
    write_sysreg(tcr, tcr_el1);
    isb();
    asm volatile("tlbi vmalle1\n dsb nsh\n isb" ::: "memory");
}

// A page that is just not mapped: the call gives RETRY, the load too.
static void take_abort(u64 vector, struct frame *f) {
    (void)vector;
    u64 class = EC(f->esr);
    f->x[0] = RETRY;
    if (class == 0x21) {
        f->elr = f->x[30];
    } else if (class == 0x25) {
        f->elr += 4;
    } else {
        add(&failures, 1);
        f->elr += 4;
    }
}
static u64 call(u64 address) {
    register u64 x0 asm("x0");
    register u64 target asm("x9") = address;
    asm volatile("stp x29, x30, [sp, #-16]!\n blr x9\n ldp x29, x30, [sp], #16" : "=r"(x0), "+r"(target) : : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x30", "memory");
    return x0;
}
static u64 load(u64 address) {
    register u64 x0 asm("x0");
    asm volatile("ldr x0, [%1]" : "=&r"(x0) : "r"(address) : "memory");
    return x0;
}

// What was seen (a generation, modulo `modulus`) lies between two readings of the generation, or is being made.
static void judge(u64 before, u64 got, u64 after, u64 modulus, u64 cpu) {
    looks[cpu]++;
    if (got == RETRY) {
        retries[cpu]++;
        return;
    }
    if (after + 1 - before >= modulus) return;
    for (u64 g = before; g <= after + 1; g++)
        if (g % modulus == got) return;
    add(&failures, 1);
}

// 1: the code of one function is rewritten in place. The value is 16 bits of the generation.
static void rewrite(u64 g) {
    u32 *f = code[0];
    for (int at = 0; at < 1024; at += 512) {
        f[at] = mov_w0(g & 0x7fff);
        clean(&f[at]);
    }
    dsb_ish();
    invalidate(f);
    dsb_ish();
    isb();
}
static void execute(u64 cpu) {
    u64 before = load_acquire(&generation);
    isb();
    u64 high = looks[cpu] & 1 ? HIGH : 0;
    u64 got = call(high + (u64)&code[0][looks[cpu] & 2 ? 512 : 0]);
    judge(before, got, load_acquire(&generation), 0x8000, cpu);
}

// 2 and 3: another page with other code appears behind one virtual page, break before make. It is called through a direct branch from the page before.
static void map(u64 g, u64 pa, u64 attributes, int by_asid) {
    (void)g;
    test_ptes[1] = 0;
    dsb_ish();
    u64 page = (TEST_VA + 4096) >> 12 & 0xffffffffffful;
    u64 high_page = (HIGH + TEST_VA + 4096) >> 12 & 0xffffffffffful;
    // What the tests before have left is global: it has no ASID.
    if (by_asid && g) {
        for (u64 asid = 1; asid <= 3; asid++) {
            if (g & 1)
                asm volatile("tlbi vae1is, %0" : : "r"(page | asid << 48) : "memory");
            else
                asm volatile("tlbi aside1is, %0" : : "r"(asid << 48) : "memory");
        }
    } else {
        asm volatile("tlbi vaae1is, %0\n tlbi vaae1is, %1" : : "r"(page), "r"(high_page) : "memory");
    }
    dsb_ish();
    test_ptes[1] = pa | attributes;
    dsb_ish();
    isb();
}
static void remap_code(u64 g) {
    if (g == 0) rewrite(0);
    map(g, (u64)code[g % PAGES], CODE_ATTRIBUTES, 0);
}
static void execute_far(u64 cpu) {
    u64 before = load_acquire(&generation);
    isb();
    u64 got = call((looks[cpu] & 3 ? HIGH : 0) + TEST_VA);
    judge(before, got, load_acquire(&generation), PAGES, cpu);
}
static void remap_data(u64 g) { map(g, (u64)data[g % PAGES], CODE_ATTRIBUTES | PTE_PXN, 0); }
static void read_page(u64 cpu) {
    u64 before = load_acquire(&generation);
    u64 got = load((looks[cpu] & 1 ? HIGH : 0) + TEST_VA + 4096);
    judge(before, got, load_acquire(&generation), PAGES, cpu);
}
// 4: as 3, not global, readers change their ASID.
static void remap_local(u64 g) { map(g, (u64)data[g % PAGES], CODE_ATTRIBUTES | PTE_PXN | PTE_NG, 1); }
static void read_local(u64 cpu) {
    u64 table = read_sysreg(ttbr0_el1) & 0xfffffffffffful;
    write_sysreg(table | (1 + looks[cpu] / 3 % 3) << 48, ttbr0_el1);
    isb();
    u64 before = load_acquire(&generation);
    u64 got = load(TEST_VA + 4096);
    judge(before, got, load_acquire(&generation), PAGES, cpu);
}

struct test {
    const char *name;
    void (*change)(u64 g);
    void (*look)(u64 cpu);
};
static const struct test tests[] = {
    {"rewritten code", rewrite, execute},
    {"remapped code", remap_code, execute_far},
    {"remapped data", remap_data, read_page},
    {"remapped data of an address space", remap_local, read_local},
};
#define TESTS (sizeof tests / sizeof *tests)

void secondary_main(u64 cpu) {
    mmu_on();
    map_both_halves();
    for (u64 n = 0; n < TESTS; n++) {
        add(&arrived, 1);
        while (load_acquire(&phase) <= n) {
        }
        while (load_acquire(&stop) <= n) tests[n].look(cpu);
    }
    add(&arrived, 1);
    for (;;) wfi();
}

int main(void) {
    mmu_on();
    map_both_halves();
    on_sync = take_abort;
    for (u64 p = 0; p < PAGES; p++) {
        for (u64 i = 0; i < 1024; i += 2) code[p][i] = mov_w0(p), code[p][i + 1] = RET;
        for (u64 i = 0; i < 512; i++) data[p][i] = p;
    }
    caller_page[0] = 0x14000400; // b .+4096
    for (u64 p = 0; p < PAGES; p++) clean(code[p]), invalidate(code[p]);
    clean(caller_page), invalidate(caller_page);
    dsb_ish();
    isb();
    cpus = 1;
    while (cpus < 64 && (int)hvc(PSCI_AFFINITY_INFO, mpidr_of(cpus), 0, 0) == 1) cpus++;
    test_ptes[0] = (u64)caller_page | CODE_ATTRIBUTES;
    for (u64 i = 1; i < cpus; i++) check_eq(start_cpu(i), 0, "CPU_ON");
    for (u64 n = 0; n < TESTS; n++) {
        while (load_acquire(&arrived) < (cpus - 1) * (n + 1)) {
        }
        for (u64 i = 1; i < cpus; i++) looks[i] = retries[i] = 0;
        store_release(&generation, 0);
        tests[n].change(0);
        store_release(&phase, n + 1);
        // A host with too few processors makes each change slow: then fewer have to do.
        u64 end = counter() + SECONDS * read_sysreg(cntfrq_el0);
        for (u64 g = 1; g <= ROUNDS && counter() < end; g++) {
            tests[n].change(g);
            store_release(&generation, g);
            // Now and then time for a whole look, else a race.
            u64 seen_before = looks[1] - retries[1], limit = counter() + read_sysreg(cntfrq_el0) / 2000;
            while (cpus > 1 && g % 4 == 0 && looks[1] - retries[1] == seen_before && counter() < limit) {
            }
            for (volatile u64 i = 0; i < (g & 63); i++) {
            }
        }
        u64 seen_before = looks[1] - retries[1];
        end = counter() + 30 * read_sysreg(cntfrq_el0);
        while (cpus > 1 && looks[1] - retries[1] == seen_before && counter() < end) {
        }
        store_release(&stop, n + 1);
        while (load_acquire(&arrived) < (cpus - 1) * (n + 2)) {
        }
        u64 all = 0, none = 0;
        for (u64 i = 1; i < cpus; i++) all += looks[i], none += retries[i];
        print(tests[n].name);
        print(": looks ");
        print_dec(all);
        print(", not mapped ");
        print_dec(none);
        print("\n");
        check_eq(failures, 0, "nothing stale was seen");
        check(cpus == 1 || none < all, "something was seen");
        failures = 0;
    }
    finish();
}

// Stage 1 translation: faults and their levels, permissions, access flag, dirty state, PAN, AT, TLBI, granules.
#include "guest.h"

#define ATTR (PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF | PTE_PXN | PTE_UXN)
static u64 page_a[512] __attribute__((aligned(65536))), page_b[512] __attribute__((aligned(4096)));
static u64 load(u64 va) {
    u64 v;
    asm volatile("ldr %0, [%1]" : "=&r"(v) : "r"(va) : "memory");
    return v;
}
static void store(u64 va, u64 v) { asm volatile("str %0, [%1]" : : "r"(v), "r"(va) : "memory"); }
static u64 at_read(u64 va) {
    asm volatile("at s1e1r, %0\n isb" : : "r"(va) : "memory");
    return read_sysreg(par_el1);
}
static u64 at_write(u64 va) {
    asm volatile("at s1e1w, %0\n isb" : : "r"(va) : "memory");
    return read_sysreg(par_el1);
}

static void faults(void) {
    mmu_unmap(TEST_VA);
    expect_exception(0x25, "translation fault level 3", load(TEST_VA + 8));
    check_eq(seen.esr & 0x3f, 0x07, "DFSC level 3");
    check_eq(seen.far, TEST_VA + 8, "FAR");
    expect_exception(0x25, "translation fault level 2", load(TEST_VA + (2ul << 20)));
    check_eq(seen.esr & 0x3f, 0x06, "DFSC level 2");
    expect_exception(0x25, "translation fault level 1", load(TEST_VA - (1ul << 30)));
    check_eq(seen.esr & 0x3f, 0x05, "DFSC level 1");
    expect_exception(0x25, "translation fault level 0", load(1ul << 45));
    check_eq(seen.esr & 0x3f, 0x04, "DFSC level 0: outside of T0SZ");
    expect_exception(0x25, "TTBR1 half is disabled (EPD1)", load(0xffffff8000000000ul));
    check_eq(seen.esr & 0x3f, 0x04, "EPD1 is a level 0 fault");

    mmu_map(TEST_VA, (u64)page_a, ATTR & ~PTE_AF);
    expect_exception(0x25, "access flag fault", load(TEST_VA));
    check_eq(seen.esr & 0x3f, 0x0b, "DFSC access flag level 3");
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_RO);
    expect_exception(0x25, "permission fault", store(TEST_VA, 1));
    check_eq(seen.esr & 0x7f, 0x4f, "DFSC permission level 3, WnR");
    expect_none("read of a read-only page", load(TEST_VA));
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    on_sync = skip_instruction;
    seen.count = 0;
    mmu_map(TEST_VA, 1ul << 47, ATTR);
    seen.count = 0;
    load(TEST_VA);
    check_eq(seen.count, 1, "nothing at that physical address");
}

static void execute_never(u64 vector, struct frame *f) {
    skip_instruction(vector, f);
    f->elr = f->x[30];
}
static void fetches(void) {
    page_a[0] = 0xd503201fd65f03c0ul; // ret; nop
    dsb();
    asm volatile("ic iallu\n dsb sy\n isb" ::: "memory");
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    on_sync = execute_never;
    seen.count = 0;
    ((void (*)(void))TEST_VA)();
    check_eq(seen.count, 1, "PXN");
    check_eq(EC(seen.esr), 0x21, "instruction abort");
    check_eq(seen.esr & 0x3f, 0x0f, "IFSC permission level 3");
    check_eq(seen.elr, TEST_VA, "ELR of an instruction abort");
    mmu_map(TEST_VA, (u64)page_a, ATTR & ~PTE_PXN);
    seen.count = 0;
    ((void (*)(void))TEST_VA)();
    check_eq(seen.count, 0, "executable without PXN");
    mmu_map(TEST_VA, (u64)page_a, (ATTR & ~PTE_PXN) | PTE_USER);
    seen.count = 0;
    ((void (*)(void))TEST_VA)();
    check_eq(seen.count, 1, "EL0-writable is never executable at EL1");
    on_sync = skip_instruction;
}

static void privileges(void) {
    int pan = has(id_field(id_aa64mmfr1_el1, 20), "PAN");
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_USER);
    page_a[1] = 77;
    write_sysreg(read_sysreg(sctlr_el1) | 1ul << 23, sctlr_el1);
    isb();
    if (pan) {
        asm volatile(".arch_extension pan\n msr pan, #0");
        check_eq(load(TEST_VA + 8), 77, "PAN 0");
        asm volatile(".arch_extension pan\n msr pan, #1");
        expect_exception(0x25, "PAN 1", load(TEST_VA + 8));
        check_eq(seen.esr & 0x3f, 0x0f, "PAN is a permission fault");
    }
    u64 v;
    expect_none("LDTR under PAN", asm volatile("ldtr %0, [%1]" : "=&r"(v) : "r"(TEST_VA + 8) : "memory"));
    check_eq(v, 77, "LDTR value");
    if (pan) asm volatile(".arch_extension pan\n msr pan, #0");
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    expect_exception(0x25, "LDTR of a kernel page", asm volatile("ldtr %0, [%1]" : "=&r"(v) : "r"(TEST_VA + 8) : "memory"));
}

static void hardware_flags(void) {
    if (!has(id_field(id_aa64mmfr1_el1, 0) == 2, "HAFDBS")) return;
    write_sysreg(read_sysreg(tcr_el1) | 1ul << 39 | 1ul << 40, tcr_el1); // HA, HD
    isb();
    mmu_map(TEST_VA, (u64)page_a, ATTR & ~PTE_AF);
    expect_none("hardware access flag", load(TEST_VA));
    check_eq(test_ptes[0] & PTE_AF, PTE_AF, "AF was set");
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_RO | PTE_DBM);
    expect_none("read does not dirty", load(TEST_VA));
    check_eq(test_ptes[0] & PTE_RO, PTE_RO, "still clean");
    expect_none("hardware dirty state", store(TEST_VA, 5));
    check_eq(test_ptes[0] & PTE_RO, 0, "dirty: AP[2] cleared");
    check_eq(page_a[0], 5, "the store arrived");
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_RO);
    expect_exception(0x25, "read-only without DBM", store(TEST_VA, 6));
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_RO | PTE_DBM);
    load(TEST_VA); // a clean entry is cached
    expect_none("a write after a cached read dirties", store(TEST_VA + 8, 7));
    check_eq(test_ptes[0] & PTE_RO, 0, "dirty after a cached read");
    write_sysreg(read_sysreg(tcr_el1) & ~(3ul << 39), tcr_el1);
    isb();
}

static void address_translation(void) {
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    check_eq(at_read(TEST_VA + 0x123) & 0x0000fffffffff001ul, (u64)page_a, "AT S1E1R");
    check_eq(at_read(TEST_VA) >> 56, 0xff, "PAR attributes");
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_RO);
    check_eq(at_write(TEST_VA) & 0x7f, 0x1f, "AT S1E1W of a read-only page: F, permission level 3");
    mmu_unmap(TEST_VA);
    check_eq(at_read(TEST_VA) & 0x7f, 0x0f, "AT of nothing: F, translation level 3");
    check_eq(at_read(UART) >> 56, 0x00, "PAR attributes of a device");
}

static void invalidation(void) {
    page_a[0] = 0xa, page_b[0] = 0xb;
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    check_eq(load(TEST_VA), 0xa, "first mapping");
    mmu_map(TEST_VA, (u64)page_b, ATTR);
    check_eq(load(TEST_VA), 0xb, "TLBI VAAE1");
    test_ptes[0] = (u64)page_a | ATTR;
    asm volatile("dsb sy\n tlbi vmalle1is\n dsb sy\n isb" ::: "memory");
    check_eq(load(TEST_VA), 0xa, "TLBI VMALLE1IS");

    // ASIDs: not-global entries of the one are not seen by the other, and both survive the switch.
    u64 ttbr = read_sysreg(ttbr0_el1) & 0xfffffffffffful;
    write_sysreg(ttbr | 1ul << 48, ttbr0_el1);
    isb();
    mmu_map(TEST_VA, (u64)page_a, ATTR | PTE_NG);
    check_eq(load(TEST_VA), 0xa, "ASID 1");
    test_ptes[0] = (u64)page_b | ATTR | PTE_NG;
    dsb();
    write_sysreg(ttbr | 2ul << 48, ttbr0_el1);
    isb();
    check_eq(load(TEST_VA), 0xb, "ASID 2 walks anew");
    asm volatile("tlbi aside1is, %0\n dsb sy\n isb" : : "r"(1ul << 48) : "memory");
    write_sysreg(ttbr | 1ul << 48, ttbr0_el1);
    isb();
    check_eq(load(TEST_VA), 0xb, "ASID 1 after TLBI ASIDE1");
    test_ptes[0] = (u64)page_a | ATTR | PTE_NG;
    asm volatile("dsb sy\n tlbi vae1is, %0\n dsb sy\n isb" : : "r"(TEST_VA >> 12 | 1ul << 48) : "memory");
    check_eq(load(TEST_VA), 0xa, "TLBI VAE1 of ASID 1");
    write_sysreg(ttbr, ttbr0_el1);
    isb();

    // The contiguous hint: sixteen pages, one entry or sixteen, all the same to the reader.
    for (u64 i = 0; i < 16; i++) test_ptes[16 + i] = ((u64)page_a + i * 4096) | ATTR | 1ul << 52;
    asm volatile("dsb sy\n tlbi vmalle1\n dsb sy\n isb" ::: "memory");
    check_eq(load(TEST_VA + 16 * 4096), page_a[0], "contiguous pages");
    check_eq(at_read(TEST_VA + 20 * 4096) & 0xfffffffff001ul, (u64)page_a + 4 * 4096, "a contiguous page inside");
    // Tagged addresses.
    mmu_map(TEST_VA, (u64)page_b, ATTR);
    write_sysreg(read_sysreg(tcr_el1) | 1ul << 37, tcr_el1);
    isb();
    check_eq(load(TEST_VA | 0xa5ul << 56), 0xb, "TBI0");
    write_sysreg(read_sysreg(tcr_el1) & ~(1ul << 37), tcr_el1);
    isb();
    expect_exception(0x25, "no TBI0", load(TEST_VA | 0xa5ul << 56));
}

// One table each: 16K and 64K granules, 36-bit addresses, identity map of the first GiBs by blocks.
static u64 big_table[8192] __attribute__((aligned(65536)));
static u64 big_next[8192] __attribute__((aligned(65536)));
static void switch_tables(u64 ttbr, u64 tcr) {
    asm volatile("msr sctlr_el1, %2\n isb\n msr ttbr0_el1, %0\n msr tcr_el1, %1\n isb\n tlbi vmalle1\n dsb sy\n isb\n msr sctlr_el1, %3\n isb"
                 : : "r"(ttbr), "r"(tcr), "r"(read_sysreg(sctlr_el1) & ~1ul), "r"(read_sysreg(sctlr_el1) | 1) : "memory");
}
static void granules(void) {
    u64 old_ttbr = read_sysreg(ttbr0_el1), old_tcr = read_sysreg(tcr_el1);
    u64 block = PTE_AF | PTE_SH | PTE_UXN | 1;
    // 64K: level 2 with 512 MiB blocks for a 36-bit space.
    for (u64 i = 0; i < 128; i++) big_table[i] = (i << 29) | block | (i < 2 ? PTE_DEVICE | PTE_PXN : PTE_NORMAL);
    big_table[100] = (u64)big_next | 3;
    big_next[5] = (u64)page_a | ATTR;
    dsb();
    u64 common = 28ul | 1ul << 8 | 1ul << 10 | 3ul << 12 | 1ul << 23 | 2ul << 32;
    page_a[3] = 0x64;
    switch_tables((u64)big_table, common | 1ul << 14);
    u64 v = load((100ul << 29) + 5 * 65536 + 24);
    seen.count = 0;
    load((100ul << 29) + 6 * 65536);
    u64 n = seen.count, esr = seen.esr;
    switch_tables(old_ttbr, old_tcr);
    check_eq(v, 0x64, "64K granule: level 3 page");
    check_eq(n, 1, "64K granule: fault");
    check_eq(esr & 0x3f, 0x07, "64K granule: level 3");
    // 16K: level 2 with 32 MiB blocks, 2048 entries.
    for (u64 i = 0; i < 2048; i++) big_table[i] = (i << 25) | block | (i < 32 ? PTE_DEVICE | PTE_PXN : PTE_NORMAL);
    big_table[1500] = (u64)big_next | 3;
    big_next[7] = ((u64)page_a) | ATTR;
    big_next[5] = 0;
    dsb();
    page_a[3] = 0x16;
    switch_tables((u64)big_table, common | 2ul << 14);
    v = load((1500ul << 25) + 7 * 16384 + 24);
    seen.count = 0;
    load((1500ul << 25) + 8 * 16384);
    n = seen.count, esr = seen.esr;
    switch_tables(old_ttbr, old_tcr);
    check_eq(v, 0x16, "16K granule: level 3 page");
    check_eq(n, 1, "16K granule: fault");
    check_eq(esr & 0x3f, 0x07, "16K granule: level 3");
}

int main(void) {
    mmu_on();
    faults();
    fetches();
    privileges();
    hardware_flags();
    address_translation();
    invalidation();
    u64 m = read_sysreg(id_aa64mmfr0_el1);
    if (has((m >> 24 & 15) == 0 && (m >> 20 & 15) != 0, "16K and 64K granules")) granules();
    // DC ZVA and unaligned accesses to normal memory.
    mmu_map(TEST_VA, (u64)page_a, ATTR);
    for (int i = 0; i < 32; i++) page_a[i] = ~0ul;
    u64 zva = 4ul << (read_sysreg(dczid_el0) & 15);
    asm volatile("dc zva, %0" : : "r"(TEST_VA + zva + 4) : "memory");
    check_eq(page_a[zva / 8 - 1], ~0ul, "DC ZVA: below");
    check_eq(page_a[zva / 8] | page_a[2 * zva / 8 - 1], 0, "DC ZVA: cleared");
    check_eq(page_a[2 * zva / 8], ~0ul, "DC ZVA: above");
    mmu_map(TEST_VA + 4096, (u64)page_b, ATTR);
    expect_none("unaligned across pages", store(TEST_VA + 4092, 0x1122334455667788ul));
    check_eq(page_a[511] >> 32, 0x55667788, "low half");
    check_eq(page_b[0] & 0xffffffff, 0x11223344, "high half");
    mmu_unmap(TEST_VA + 4096);
    u64 before = page_a[511];
    expect_exception(0x25, "store across into nothing", store(TEST_VA + 4092, 0));
    check_eq(seen.far, TEST_VA + 4096, "FAR is in the second page");
    check_eq(page_a[511], before, "nothing of it was stored");
    finish();
}

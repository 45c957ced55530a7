// Data accesses at every kind of border: both ends of both halves of the address space, wrap-around, holes, pages with other rights, Device memory, tags.
//
// What the architecture lays down is checked here against a model of the pages. All that happened, also where it is left open, goes into a digest for each
// instruction and border: the engines have to agree on those (the test compares the consoles).
#include "guest.h"

#define NORMAL (PTE_VALID | PTE_NORMAL | PTE_SH | PTE_AF | PTE_PXN | PTE_UXN)
#define DEVICE (PTE_VALID | PTE_DEVICE | PTE_AF | PTE_PXN | PTE_UXN)
enum kind { NONE, PLAIN, READ_ONLY, AS_DEVICE, USER };
static u8 pages[10][4096] __attribute__((aligned(4096)));
static u64 low_l2[512] __attribute__((aligned(4096))), low_l3[512] __attribute__((aligned(4096)));
static u64 high_l2[512] __attribute__((aligned(4096))), high_l3[512] __attribute__((aligned(4096)));
#define LOW_END 0x8000000000ul
#define HIGH 0xffffff8000000000ul
static const struct region {
    u64 va;
    enum kind kind;
    int page;
} regions[] = {
    {0, PLAIN, 0}, {LOW_END - 4096, PLAIN, 1}, {HIGH, PLAIN, 0}, {-4096ul, PLAIN, 1},
    {TEST_VA, PLAIN, 2}, {TEST_VA + 0x2000, PLAIN, 3}, {TEST_VA + 0x3000, READ_ONLY, 4}, {TEST_VA + 0x4000, AS_DEVICE, 5},
    {TEST_VA + 0x5000, PLAIN, 6}, {TEST_VA + 0x6000, PLAIN, 7}, {TEST_VA + 0x7000, USER, 8},
};
#define REGIONS (sizeof regions / sizeof *regions)
static int tbi, translating;

static u8 *where(u64 va, enum kind *kind) {
    if (tbi) va = (u64)((long)(va << 8) >> 8);
    *kind = NONE;
    for (u64 i = 0; translating && i < REGIONS; i++)
        if (va - regions[i].va < 4096) {
            *kind = regions[i].kind;
            return &pages[regions[i].page][va & 4095];
        }
    if (va - (u64)pages < sizeof pages) {
        *kind = translating ? PLAIN : AS_DEVICE;
        return (u8 *)va;
    }
    return 0;
}
static u8 pattern(const u8 *p) {
    u64 offset = (u64)(p - &pages[0][0]);
    return (u8)(offset * 167 + (offset >> 12) * 31 + 11);
}

// The instructions. r, s: what was loaded; v, w: what is stored; b: the base, which writeback changes.
struct result {
    u64 r, s, base;
};
#define KIND(name, text)                                                                                                        \
    static void name(u64 va, struct result *result) {                                                                           \
        u64 r = 0x1111, s = 0x2222, b = va, v = 0x8182838485868788ul, w = 0x9192939495969798ul, far_base = va - (1ul << 63), half = 1ul << 63; \
        asm volatile(".arch armv8.2-a+simd\n" text                                                                              \
                     : [r] "+&r"(r), [s] "+&r"(s), [b] "+&r"(b), [v] "+&r"(v), [w] "+&r"(w), [f] "+&r"(far_base), [h] "+&r"(half) \
                     :                                                                                                          \
                     : "memory", "v0", "v1", "v2", "v3", "x9");                                                                 \
        *result = (struct result){r, s, b - va};                                                                                \
    }
#define FROM_Q "mov %[r], v0.d[0]\n mov %[s], v0.d[1]\n"
#define CLEAR_Q "movi v0.2d, #0\n movi v1.2d, #0\n movi v2.2d, #0\n movi v3.2d, #0\n"
#define TO_Q "fmov d0, %[v]\n mov v0.d[1], %[w]\n mov v1.16b, v0.16b\n mov v2.16b, v0.16b\n mov v3.16b, v0.16b\n"
KIND(ldrb, "ldrb %w[r], [%[b]]")
KIND(ldrh, "ldrh %w[r], [%[b]]")
KIND(ldrw, "ldr %w[r], [%[b]]")
KIND(ldrx, "ldr %[r], [%[b]]")
KIND(ldrx_post, "ldr %[r], [%[b]], #8")
KIND(ldrx_pre, "sub %[b], %[b], #16\n ldr %[r], [%[b], #16]!")
KIND(ldrx_scaled, "sub x9, %[b], #4088\n ldr %[r], [x9, #4088]")
KIND(ldrx_register, "ldr %[r], [%[f], %[h]]")
KIND(ldrq, CLEAR_Q "ldr q0, [%[b]]\n" FROM_Q)
KIND(ldpx, "ldp %[r], %[s], [%[b]]")
KIND(ldpq, CLEAR_Q "ldp q0, q1, [%[b]]\n eor v0.16b, v0.16b, v1.16b\n" FROM_Q)
KIND(ld4, CLEAR_Q "ld4 {v0.4s, v1.4s, v2.4s, v3.4s}, [%[b]], #64\n eor v0.16b, v0.16b, v3.16b\n eor v0.16b, v0.16b, v2.16b\n" FROM_Q)
KIND(ldtr, "ldtr %[r], [%[b]]")
KIND(ldar, "ldar %[r], [%[b]]")
KIND(ldxr, "ldxr %[r], [%[b]]\n clrex")
KIND(ldxp, "ldxp %[r], %[s], [%[b]]\n clrex")
KIND(strb, "strb %w[v], [%[b]]")
KIND(strh, "strh %w[v], [%[b]]")
KIND(strw, "str %w[v], [%[b]]")
KIND(strx, "str %[v], [%[b]]")
KIND(strx_post, "str %[v], [%[b]], #8")
KIND(strx_register, "str %[v], [%[f], %[h]]")
KIND(strq, TO_Q "str q0, [%[b]]")
KIND(stpx, "stp %[v], %[w], [%[b]]")
KIND(stpq, TO_Q "stp q0, q1, [%[b]]")
KIND(st4, TO_Q "st4 {v0.4s, v1.4s, v2.4s, v3.4s}, [%[b]], #64")
KIND(sttr, "sttr %[v], [%[b]]")
KIND(stlr, "stlr %[v], [%[b]]")
KIND(swp, "swpal %[v], %[r], [%[b]]")
KIND(ldadd, "ldaddal %[v], %[r], [%[b]]")
KIND(cas, "casal %[r], %[v], [%[b]]")
KIND(group, "mov x9, #0\n ldp %[r], %[s], [%[b]]\n ldr x9, [%[b], #16]\n eor %[r], %[r], x9")
KIND(zva, "dc zva, %[b]")

// `exact`: the number of bytes of a single plain access, whose outcome the model knows.
static const struct instruction {
    const char *name;
    void (*run)(u64, struct result *);
    int exact, stores;
} instructions[] = {
    {"ldrb", ldrb, 1, 0}, {"ldrh", ldrh, 2, 0}, {"ldr w", ldrw, 4, 0}, {"ldr x", ldrx, 8, 0}, {"ldr x, post", ldrx_post, 8, 0}, {"ldr x, pre", ldrx_pre, 8, 0},
    {"ldr x, scaled", ldrx_scaled, 8, 0}, {"ldr x, register", ldrx_register, 8, 0}, {"ldr q", ldrq, 0, 0}, {"ldp x", ldpx, 0, 0}, {"ldp q", ldpq, 0, 0},
    {"ld4", ld4, 0, 0}, {"ldtr", ldtr, 0, 0}, {"ldar", ldar, 0, 0}, {"ldxr", ldxr, 0, 0}, {"ldxp", ldxp, 0, 0}, {"strb", strb, 1, 1}, {"strh", strh, 2, 1},
    {"str w", strw, 4, 1}, {"str x", strx, 8, 1}, {"str x, post", strx_post, 8, 1}, {"str x, register", strx_register, 8, 1}, {"str q", strq, 0, 1},
    {"stp x", stpx, 0, 1}, {"stp q", stpq, 0, 1}, {"st4", st4, 0, 1}, {"sttr", sttr, 0, 1}, {"stlr", stlr, 0, 1}, {"swpal", swp, 0, 1}, {"ldaddal", ldadd, 0, 1},
    {"casal", cas, 0, 1}, {"group", group, 0, 0}, {"dc zva", zva, 0, 1},
};
#define INSTRUCTIONS (sizeof instructions / sizeof *instructions)
static const struct border {
    const char *name;
    u64 va;
} borders[] = {
    {"0 and the top of addresses", 0}, {"end of the lower half", LOW_END}, {"start of the upper half", HIGH}, {"hole", 1ul << 47}, {"sign", 1ul << 63},
    {"normal, nothing", TEST_VA + 0x1000}, {"nothing, normal", TEST_VA + 0x2000}, {"normal, read-only", TEST_VA + 0x3000}, {"read-only, device", TEST_VA + 0x4000},
    {"device, normal", TEST_VA + 0x5000}, {"normal, normal", TEST_VA + 0x6000}, {"normal, user", TEST_VA + 0x7000}, {"user, nothing", TEST_VA + 0x8000},
    {"tagged low", 0x5a00000000000000ul + TEST_VA + 0x6000}, {"tagged high", 0xa5ffff8000000000ul + 0x1000}, {"tagged end", 0x7f00000000000000ul + LOW_END},
    {"physical end", 1ul << 40}, {"physical 48 bits", 1ul << 48}, {"the pages' own", 0},
};
#define BORDERS (sizeof borders / sizeof *borders)

static u64 digest;
static void mix(u64 v) { digest = (digest ^ v) * 0x100000001b3ul, digest ^= digest >> 29; }

// What must be where the architecture leaves nothing open.
static void judge(const struct instruction *in, u64 va, const struct result *result, int asked_alignment) {
    u64 size = (u64)in->exact, want = 0, first_bad = size;
    if (!size || va + size - 1 < va) return;
    int device = 0;
    enum kind kind;
    for (u64 i = 0; i < size; i++) {
        u8 *p = where(va + i, &kind);
        int ok = p && !(in->stores && kind == READ_ONLY);
        device |= kind == AS_DEVICE;
        if (ok) want |= (u64)(in->stores ? *p : pattern(p)) << 8 * i;
        else if (first_bad == size) first_bad = i;
    }
    u64 unaligned = va % size;
    if (device && unaligned && first_bad < size) return;
    if (unaligned && (asked_alignment || device)) {
        check(seen.count == 1 && EC(seen.esr) == 0x25 && (seen.esr & 0x3f) == 0x21, "alignment fault");
    } else if (first_bad < size) {
        check(seen.count == 1 && EC(seen.esr) == 0x25, "abort");
        if (!tbi && translating) check_eq(seen.far, va + first_bad, "FAR is the first byte that cannot be accessed");
        check_eq(seen.esr >> 6 & 1, in->stores, "WnR");
    } else {
        u64 value = in->stores ? 0x8182838485868788ul & (size == 8 ? -1ul : (1ul << 8 * size) - 1) : result->r;
        check(seen.count == 0 && value == want, "all bytes, in their order");
    }
    if (seen.count) check(result->r == 0x1111, "a load that aborts leaves its register");
}

static int shown;
static void show(const struct instruction *in, u64 va) {
    if (shown++ >= 12) return;
    print("    ");
    print(in->name);
    print(" at ");
    print_hex(va);
    print(", exceptions ");
    print_dec(seen.count);
    print(", ESR ");
    print_hex(seen.esr);
    print(", FAR ");
    print_hex(seen.far);
    print("\n");
}

static void one(const struct instruction *in, u64 va, int asked_alignment) {
    struct result result;
    seen.count = seen.esr = seen.far = 0;
    in->run(va, &result);
    u64 failures = failures_so_far();
    judge(in, va, &result, asked_alignment);
    if (failures != failures_so_far()) show(in, va);
    mix(result.r), mix(result.s), mix(result.base), mix(seen.count);
    // The syndrome without what depends on the engine: nothing does. The tag of FAR is UNKNOWN.
    mix(seen.esr), mix(seen.count ? seen.far << 8 : 0);
    if (!in->stores) return;
    for (u64 at = (va & -64ul) - 8; at != (va & -64ul) + 136; at++) {
        enum kind kind;
        u8 *p = where(at, &kind);
        if (!p) continue;
        mix(*p);
        *p = pattern(p);
    }
}

static void sweep(const char *title, int asked_alignment) {
    u64 first[BORDERS];
    for (u64 n = 0; n < INSTRUCTIONS; n++) {
        // The second time everything is translated and cached.
        for (int time = 0; time < 2; time++) {
            digest = 0xcbf29ce484222325ul;
            for (u64 b = 0; b < BORDERS; b++) {
                u64 va = borders[b].va;
                if (b == BORDERS - 1) va = (u64)pages + 4096;
                // Without translation, only the pages and what no device answers at.
                else if (!translating && va < 1ul << 41) continue;
                for (u64 offset = 0; offset < 40; offset++) one(&instructions[n], va + offset - (instructions[n].run == zva ? 20 : 34), asked_alignment);
                if (time) {
                    check_eq(digest, first[b], "the same at the second time");
                } else {
                    first[b] = digest;
                }
            }
        }
        print(title);
        print(", ");
        print(instructions[n].name);
        print(": ");
        print_hex(digest);
        print("\n");
    }
}

static void map_everything(void) {
    u64 *l1 = (u64 *)(read_sysreg(ttbr0_el1) & 0xfffffffff000ul);
    for (u64 i = 1; i < 512; i++) low_l2[i] = i << 21 | PTE_DEVICE | PTE_AF | PTE_PXN | PTE_UXN | 1;
    low_l2[0] = (u64)low_l3 | 3;
    low_l3[0] = (u64)pages[0] | NORMAL;
    high_l2[511] = (u64)high_l3 | 3;
    high_l3[511] = (u64)pages[1] | NORMAL;
    l1[0] = (u64)low_l2 | 3;
    l1[511] = (u64)high_l2 | 3;
    for (u64 i = 4; i < REGIONS; i++) {
        enum kind kind = regions[i].kind;
        u64 attributes = (kind == AS_DEVICE ? DEVICE : NORMAL) | (kind == READ_ONLY ? PTE_RO : 0) | (kind == USER ? PTE_USER : 0);
        mmu_map(regions[i].va, (u64)pages[regions[i].page], attributes);
    }
    u64 tcr = read_sysreg(tcr_el1);
    tcr = (tcr & ~(0x3ful << 16 | 1ul << 23)) | (tcr & 0x3f) << 16 | 1ul << 24 | 1ul << 26 | 3ul << 28 | 2ul << 30;
    write_sysreg(read_sysreg(ttbr0_el1), ttbr1_el1);
    write_sysreg(tcr, tcr_el1);
    isb();
    asm volatile("tlbi vmalle1\n dsb sy\n isb" ::: "memory");
}

int main(void) {
    for (u64 i = 0; i < sizeof pages; i++) (&pages[0][0])[i] = pattern(&pages[0][0] + i);
    sweep("no translation", 0);
    mmu_on();
    translating = 1;
    map_everything();
    sweep("translation", 0);
    write_sysreg(read_sysreg(tcr_el1) | 3ul << 37, tcr_el1); // TBI0, TBI1
    isb();
    tbi = 1;
    sweep("tags ignored", 0);
    write_sysreg(read_sysreg(sctlr_el1) | 2, sctlr_el1); // A
    isb();
    sweep("alignment checked", 1);
    finish();
}

// Memory order between processors: the classic litmus tests, each with the barriers or instructions that forbid an outcome. Any forbidden outcome is a failure.
// SB without barriers shows whether the machine reorders at all: its count is printed, for the host to judge.
#include "guest.h"

#ifndef ITERATIONS
#define ITERATIONS 100000
#endif
#ifndef SECONDS
#define SECONDS 4
#endif
#define BATCH 128
struct cell {
    u64 x, px[15], y, py[15];
};
static struct cell cells[BATCH] __attribute__((aligned(4096)));
static u64 result[4][BATCH][2];
static volatile u64 command, arrived, failures;
static u64 cpus;

static void add(volatile u64 *p, u64 n) {
    asm volatile(".arch_extension lse\n ldaddal %1, xzr, [%0]" : : "r"(p), "r"(n) : "memory");
}
static u64 load_acquire(volatile u64 *p) {
    u64 v;
    asm volatile("ldar %0, [%1]" : "=r"(v) : "r"(p) : "memory");
    return v;
}
static void store_release(volatile u64 *p, u64 v) { asm volatile("stlr %0, [%1]" : : "r"(v), "r"(p) : "memory"); }

// The pieces. x, y: addresses; a, b: results; one, two: values; t, f: scratch.
#define W(p, v) "str %[" v "], [%[" p "]]\n"
#define WREL(p, v) "stlr %[" v "], [%[" p "]]\n"
#define R(r, p) "ldr %[" r "], [%[" p "]]\n"
#define RACQ(r, p) "ldar %[" r "], [%[" p "]]\n"
#define SWPL(p, v) "swpl %[" v "], %[t], [%[" p "]]\n"
#define SWPAL(p, v) "swpal %[" v "], %[t], [%[" p "]]\n"
#define ADDA(r, p) "ldadda xzr, %[" r "], [%[" p "]]\n"
#define WX(p, v) "9: ldxr %[t], [%[" p "]]\n stlxr %w[f], %[" v "], [%[" p "]]\n cbnz %w[f], 9b\n"
#define RX(r, p) "8: ldaxr %[" r "], [%[" p "]]\n stxr %w[f], %[" r "], [%[" p "]]\n cbnz %w[f], 8b\n"
#define DMB "dmb ish\n"
#define DMBLD "dmb ishld\n"
#define DMBST "dmb ishst\n"
// A dependency from a to the address or value used next.
#define DEPADDR(p) "eor %[t], %[a], %[a]\n add %[" p "], %[" p "], %[t]\n"
#define DEPVALUE(v) "eor %[t], %[a], %[a]\n add %[" v "], %[" v "], %[t]\n"
#define NONE ""

#define THREAD(name, code)                                                                                              \
    static __attribute__((unused)) void name(u64 cpu) {                                                                                         \
        for (u64 i = 0; i < BATCH; i++) {                                                                               \
            u64 a = 0, b = 0, t = 0, f = 0, one = 1, two = 2;                                                           \
            u64 *x = &cells[i].x, *y = &cells[i].y;                                                                     \
            asm volatile(".arch_extension lse\n" code                                                                   \
                         : [a] "+&r"(a), [b] "+&r"(b), [t] "+&r"(t), [f] "+&r"(f), [x] "+&r"(x), [y] "+&r"(y), [one] "+&r"(one), [two] "+&r"(two) \
                         :                                                                                              \
                         : "memory");                                                                                   \
            result[cpu][i][0] = a, result[cpu][i][1] = b;                                                               \
        }                                                                                                               \
    }

struct outcome {
    u64 a[4], b[4], x, y;
};
struct test {
    const char *name;
    void (*thread[4])(u64);
    int (*forbidden)(const struct outcome *);
};
// What each shape forbids.
static int mp(const struct outcome *o) { return o->a[1] == 1 && o->b[1] == 0; }
static int sb(const struct outcome *o) { return o->a[0] == 0 && o->a[1] == 0; }
static int lb(const struct outcome *o) { return o->a[0] == 1 && o->a[1] == 1; }
static int iriw(const struct outcome *o) { return o->a[2] == 1 && o->b[2] == 0 && o->a[3] == 1 && o->b[3] == 0; }
static int w22(const struct outcome *o) { return o->x == 1 && o->y == 1; }
static int r(const struct outcome *o) { return o->y == 2 && o->a[1] == 0; }
static int s(const struct outcome *o) { return o->a[1] == 1 && o->x == 2; }

// One shape under one discipline: what stands between, how stores and loads are made.
#define FAMILY(n, store1, store2, between, load1, load2)                                                                \
    THREAD(mp0_##n, store1("x", "one") between store2("y", "one"))                                                      \
    THREAD(mp1_##n, load1("a", "y") between load2("b", "x"))                                                            \
    THREAD(sb0_##n, store2("x", "one") between load1("a", "y"))                                                         \
    THREAD(sb1_##n, store2("y", "one") between load1("a", "x"))                                                         \
    THREAD(lb0_##n, load1("a", "x") between store2("y", "one"))                                                         \
    THREAD(lb1_##n, load1("a", "y") between store2("x", "one"))                                                         \
    THREAD(ir0_##n, store2("x", "one"))                                                                                 \
    THREAD(ir1_##n, store2("y", "one"))                                                                                 \
    THREAD(ir2_##n, load1("a", "x") between load2("b", "y"))                                                            \
    THREAD(ir3_##n, load1("a", "y") between load2("b", "x"))                                                            \
    THREAD(ww0_##n, store1("x", "one") between store2("y", "two"))                                                      \
    THREAD(ww1_##n, store1("y", "one") between store2("x", "two"))                                                      \
    THREAD(r0_##n, store1("x", "one") between store2("y", "one"))                                                       \
    THREAD(r1_##n, store2("y", "two") between load1("a", "x"))                                                          \
    THREAD(s0_##n, store1("x", "two") between store2("y", "one"))                                                       \
    THREAD(s1_##n, load1("a", "y") between store2("x", "one"))
#define ROWS(n, text)                                                                                                   \
    {"MP " text, {mp0_##n, mp1_##n}, mp}, {"SB " text, {sb0_##n, sb1_##n}, sb}, {"LB " text, {lb0_##n, lb1_##n}, lb},  \
        {"IRIW " text, {ir0_##n, ir1_##n, ir2_##n, ir3_##n}, iriw}, {"2+2W " text, {ww0_##n, ww1_##n}, w22},            \
        {"R " text, {r0_##n, r1_##n}, r}, {"S " text, {s0_##n, s1_##n}, s}

FAMILY(dmb, W, W, DMB, R, R)
FAMILY(rel, W, WREL, NONE, RACQ, R)
FAMILY(sc, WREL, WREL, NONE, RACQ, RACQ)
FAMILY(lse, SWPAL, SWPAL, NONE, RACQ, RACQ)
FAMILY(ex, WX, WX, NONE, RACQ, RACQ)
THREAD(plain0, W("x", "one") R("a", "y"))
THREAD(plain1, W("y", "one") R("a", "x"))
THREAD(mpst0, W("x", "one") DMBST W("y", "one"))
THREAD(mpld1, R("a", "y") DMBLD R("b", "x"))
THREAD(mpaddr1, R("a", "y") DEPADDR("x") R("b", "x"))
THREAD(mplse0, W("x", "one") SWPL("y", "one"))
THREAD(mplse1, ADDA("a", "y") R("b", "x"))
THREAD(mpex1, RX("a", "y") R("b", "x"))
THREAD(mpex0, W("x", "one") WX("y", "one"))
THREAD(lbdep0, R("a", "x") DEPVALUE("one") W("y", "one"))
THREAD(lbdep1, R("a", "y") DEPVALUE("one") W("x", "one"))

static const struct test tests[] = {
    ROWS(dmb, "dmb"), ROWS(sc, "stlr, ldar"), ROWS(lse, "swpal, ldar"), ROWS(ex, "ldxr and stlxr, ldar"),
    {"MP str, stlr; ldar, ldr", {mp0_rel, mp1_rel}, mp},
    {"LB ldar; stlr", {lb0_rel, lb1_rel}, lb},
    {"S str, stlr; ldar, stlr", {s0_rel, s1_rel}, s},
    {"MP dmb ishst; dmb ishld", {mpst0, mpld1}, mp},
    {"MP dmb ishst; address", {mpst0, mpaddr1}, mp},
    {"MP swpl; ldadda", {mplse0, mplse1}, mp},
    {"MP stlxr; ldaxr", {mpex0, mpex1}, mp},
    {"LB value", {lbdep0, lbdep1}, lb},
    {"SB plain, allowed", {plain0, plain1}, sb},
};
#define TESTS (sizeof tests / sizeof *tests)

static int threads_of(const struct test *t) { return t->thread[2] ? 4 : 2; }

// Command: number of the test << 32 | a serial number. Everybody who has a part answers by `arrived`.
void secondary_main(u64 cpu) {
    mmu_on();
    add(&arrived, 1);
    u64 done = 0;
    for (;;) {
        u64 c = load_acquire(&command);
        if (c == done) {
            asm volatile("wfe");
            continue;
        }
        done = c;
        if (c >> 32 >= TESTS) continue;
        const struct test *t = &tests[c >> 32];
        if (cpu < 4 && t->thread[cpu]) {
            t->thread[cpu](cpu);
            add(&arrived, 1);
        }
    }
}

static u64 batch(u64 n, u64 serial) {
    const struct test *t = &tests[n];
    u64 bad = 0, others = threads_of(t) - 1;
    for (u64 i = 0; i < BATCH; i++) cells[i].x = cells[i].y = 0;
    store_release(&arrived, 0);
    store_release(&command, n << 32 | serial);
    asm volatile("dsb ish\n sev");
    // Not ahead of the others by the time that they need to wake.
    for (volatile u64 i = 0; i < (serial * 7 & 255); i++) {
    }
    t->thread[0](0);
    while (load_acquire(&arrived) < others) asm volatile("yield");
    for (u64 i = 0; i < BATCH; i++) {
        struct outcome o;
        for (int c = 0; c < 4; c++) o.a[c] = result[c][i][0], o.b[c] = result[c][i][1];
        o.x = cells[i].x, o.y = cells[i].y;
        bad += t->forbidden(&o);
    }
    return bad;
}

int main(void) {
    mmu_on();
    cpus = 1;
    while (cpus < 4 && (int)hvc(PSCI_AFFINITY_INFO, mpidr_of(cpus), 0, 0) == 1) cpus++;
    for (u64 i = 1; i < cpus; i++) check_eq(start_cpu(i), 0, "CPU_ON");
    while (load_acquire(&arrived) < cpus - 1) {
    }
    u64 serial = 1;
    for (u64 n = 0; n < TESTS; n++) {
        if (threads_of(&tests[n]) > (int)cpus) continue;
        int allowed = n == TESTS - 1;
        u64 bad = 0, count = 0, end = counter() + SECONDS * read_sysreg(cntfrq_el0);
        for (; (count < ITERATIONS || (allowed && !bad && count < 4 * ITERATIONS)) && counter() < end; count += BATCH) bad += batch(n, serial++);
        print(tests[n].name);
        print(allowed ? ": seen " : ": forbidden ");
        print_dec(bad);
        print(" of ");
        print_dec(count);
        print("\n");
        if (!allowed) check_eq(bad, 0, tests[n].name);
    }
    finish();
}

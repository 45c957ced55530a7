// Device accesses of all widths and kinds of instruction, also those that hardware describes no syndrome for: pairs,
// writeback, SIMD&FP. The registers are two of the PL011 that stand side by side: IBRD (16 bits) and FBRD (6 bits).
#include "guest.h"

#define IBRD (UART + 0x24)
#define FBRD (UART + 0x28)
#define NOWHERE 0x0f000000ul

static void set(u32 ibrd, u32 fbrd) {
    mmio32(IBRD) = ibrd;
    mmio32(FBRD) = fbrd;
}

static void expect(u32 ibrd, u32 fbrd, const char *what) {
    check_eq(mmio32(IBRD), ibrd, what);
    check_eq(mmio32(FBRD), fbrd, what);
}

static void widths(void) {
    set(0x1234, 0x15);
    expect(0x1234, 0x15, "32 bits");
    check_eq(mmio8(IBRD), 0x34, "8 bits");
    check_eq(*(volatile u16 *)IBRD, 0x1234, "16 bits");
    u64 v;
    asm volatile("ldrsh %0, [%1]" : "=r"(v) : "r"(IBRD));
    check_eq(v, 0x1234, "LDRSH");
    set(0x8234, 0x15);
    asm volatile("ldrsh %0, [%1]" : "=r"(v) : "r"(IBRD));
    check_eq(v, 0xffffffffffff8234, "LDRSH extends the sign");
    asm volatile("ldrsh %w0, [%1]" : "=r"(v) : "r"(IBRD));
    check_eq(v, 0xffff8234, "LDRSH to 32 bits");
    asm volatile("ldar %w0, [%1]" : "=r"(v) : "r"(FBRD));
    check_eq(v, 0x15, "LDAR");
    asm volatile("str wzr, [%0]" : : "r"(FBRD) : "memory");
    check_eq(mmio32(FBRD), 0, "STR of the zero register");
}

static void pairs(void) {
    u64 a, b, at = IBRD;
    set(0x1234, 0x15);
    asm volatile("ldp %w0, %w1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at));
    check_eq(a, 0x1234, "LDP, first");
    check_eq(b, 0x15, "LDP, second");
    asm volatile("ldpsw %0, %1, [%2]" : "=&r"(a), "=&r"(b) : "r"(at));
    check_eq(a + b, 0x1249, "LDPSW");
    asm volatile("stp %w0, %w1, [%2]" : : "r"(0x77), "r"(0x3f), "r"(at) : "memory");
    expect(0x77, 0x3f, "STP");
    asm volatile("stnp %w0, %w1, [%2]" : : "r"(0x88), "r"(0x3e), "r"(at) : "memory");
    expect(0x88, 0x3e, "STNP");
}

static void writeback(void) {
    u64 a, b, at = IBRD;
    set(0x1234, 0x15);
    asm volatile("ldr %w0, [%1], #4" : "=&r"(a), "+r"(at));
    check_eq(a, 0x1234, "LDR, post-index");
    check_eq(at, FBRD, "LDR, post-index: base");
    asm volatile("ldr %w0, [%1, #-4]!" : "=&r"(a), "+r"(at));
    check_eq(a, 0x1234, "LDR, pre-index");
    check_eq(at, IBRD, "LDR, pre-index: base");
    asm volatile("str %w1, [%0], #4" : "+r"(at) : "r"(0x99) : "memory");
    check_eq(at, FBRD, "STR, post-index: base");
    expect(0x99, 0x15, "STR, post-index");
    at = IBRD;
    asm volatile("ldp %w0, %w1, [%2], #16" : "=&r"(a), "=&r"(b), "+r"(at));
    check_eq(a, 0x99, "LDP, post-index, first");
    check_eq(b, 0x15, "LDP, post-index, second");
    check_eq(at, IBRD + 16, "LDP, post-index: base");
    asm volatile("ldrb %w0, [%1, #-16]!" : "=&r"(a), "+r"(at));
    check_eq(a, 0x99, "LDRB, pre-index");
}

static void simd(void) {
    u64 a, b, at = IBRD;
    set(0x1234, 0x15);
    asm volatile("ldr s0, [%1]\n fmov %w0, s0" : "=r"(a) : "r"(at) : "v0");
    check_eq(a, 0x1234, "LDR of S");
    asm volatile("ldp s0, s1, [%2]\n fmov %w0, s0\n fmov %w1, s1" : "=r"(a), "=r"(b) : "r"(at) : "v0", "v1");
    check_eq(a + b, 0x1249, "LDP of S");
    asm volatile("fmov s3, %w0\n str s3, [%1]" : : "r"(0x55), "r"(at) : "v3", "memory");
    expect(0x55, 0x15, "STR of S");
    asm volatile("movi v2.4s, #7\n ld1 {v2.s}[1], [%1]\n mov %0, v2.d[0]" : "=r"(a) : "r"(at) : "v2");
    check_eq(a, 0x55ul << 32 | 7, "LD1 of one lane");
    asm volatile("movi v2.4s, #9\n st1 {v2.s}[2], [%0], #4" : "+r"(at) : : "v2", "memory");
    expect(9, 0x15, "ST1 of one lane");
    check_eq(at, FBRD, "ST1, post-index: base");
}

static void nobody(void) {
    u64 a = 0x1111, b = 0x2222, at = NOWHERE;
    expect_exception(0x25, "LDP from nothing", asm volatile("ldp %w0, %w1, [%2]" : "+r"(a), "+r"(b) : "r"(at)));
    check_eq(seen.esr & 0x3f, 0x10, "LDP from nothing: external abort");
    check_eq(seen.far, NOWHERE, "LDP from nothing: FAR");
    check_eq(a, 0x1111, "LDP from nothing: first register");
    expect_exception(0x25, "STR to nothing", asm volatile("str %w1, [%0], #4" : "+r"(at) : "r"(1) : "memory"));
    check_eq(seen.esr & (1 << 6), 1 << 6, "STR to nothing: WnR");
    check_eq(at, NOWHERE, "STR to nothing: base");
    a = 0x3333;
    expect_exception(0x25, "LDR from nothing", asm volatile("ldr %w0, [%1]" : "+r"(a) : "r"(at)));
    check_eq(a, 0x3333, "LDR from nothing: register");
    check_eq(seen.esr & (1 << 6), 0, "LDR from nothing: WnR");
}

int main(void) {
    write_sysreg(3ul << 20, cpacr_el1);
    isb();
    for (int mmu = 0; mmu < 2; mmu++) {
        widths();
        pairs();
        writeback();
        simd();
        nobody();
        if (!mmu)
            mmu_on();
    }
    finish();
}

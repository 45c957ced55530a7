// Code and data at addresses that a debugger knows: twice the same few instructions, which run as if nobody looked.
#include "guest.h"

#define CODE 0x40400000ul
#define DATA 0x40410000ul

static const u32 words[] = {
    0xd28000a0, // mov x0, #5
    0xf9000020, // str x0, [x1]
    0xa9400c22, // ldp x2, x3, [x1]
    0xb94000c4, // ldr w4, [x6]      a device's register
    0xb84044c4, // ldr w4, [x6], #4  an access that the hardware does not describe
    0x3900203f, // strb wzr, [x1, #8]
    0xd65f03c0, // ret
};

static u64 run(void) {
    register u64 x0 asm("x0") = 0;
    register u64 x1 asm("x1") = DATA;
    register u64 x2 asm("x2") = 0;
    register u64 x3 asm("x3") = 0;
    register u64 x4 asm("x4") = 0;
    register u64 x6 asm("x6") = UART + 0x18;
    asm volatile("blr %6"
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3), "+r"(x4), "+r"(x6)
                 : "r"(CODE)
                 : "x30", "memory");
    u64 sum = x2 + x3, end = x6;
    check_eq(end, UART + 0x1c, "post-index");
    return sum;
}

int main(void) {
    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) mmio32(CODE + 4 * i) = words[i];
    for (u64 at = CODE; at < CODE + 64; at += 16) asm volatile("dc cvau, %0" : : "r"(at) : "memory");
    dsb();
    asm volatile("ic iallu" ::: "memory");
    dsb();
    isb();
    mmio64(DATA) = 0;
    mmio64(DATA + 8) = 0x1234;
    check_eq(run(), 5 + 0x1234, "first call");
    check_eq(run(), 5 + 0x1200, "second call");
    finish();
}

// A load of vectors from a device, which the hardware does not describe and no engine executes: the run ends, and says where.
#include "guest.h"

int main(void) {
    write_sysreg(3ul << 16 | 3ul << 20, cpacr_el1);
    isb();
    print("BEYOND\n");
    asm volatile(".inst 0x2518e3e0\n" // ptrue p0.b
                 "mov x0, %0\n"
                 ".inst 0xa400a000\n" // ld1b {z0.b}, p0/z, [x0]
                 :
                 : "r"(0x09010000ul)
                 : "x0", "memory");
    check(0, "the load was executed");
    finish();
}

// GICv3: SGIs, SPIs by software pending, priorities, preemption, masks, EOI modes, groups, active state.
#include "guest.h"

#define MAX 64
static volatile u32 order[MAX], depth, deepest, taken;
static volatile u32 raise_inside, drop_only;
static void send_sgi_self(u32 intid) {
    u64 m = read_sysreg(mpidr_el1);
    write_icc((u64)intid << 24 | 1ul << (m & 15) | (m >> 8 & 0xff) << 16, ICC_SGI1R);
    isb();
}
static void pend(u32 intid) { mmio32(GICD + 0x200 + 4 * (intid / 32)) = 1u << (intid % 32); }
static void take_irq(u64 vector, struct frame *f) {
    (void)vector;
    u64 iar = read_icc(ICC_IAR1);
    if (iar >= 1020) return;
    order[taken++ % MAX] = iar;
    if (++depth > deepest) deepest = depth;
    if (raise_inside) {
        u32 n = raise_inside;
        raise_inside = 0;
        pend(n);
        dsb();
        u64 elr = read_sysreg(elr_el1), spsr = read_sysreg(spsr_el1);
        irq_on();
        isb();
        for (volatile int i = 0; i < 100; i++) {
        }
        irq_off();
        write_sysreg(elr, elr_el1);
        write_sysreg(spsr, spsr_el1);
    }
    (void)f;
    depth--;
    write_icc(iar, ICC_EOIR1);
    isb();
}

int main(void) {
    gic_init();
    gic_init_cpu(0);
    on_irq = take_irq;
    check_eq(mmio32(GICD + 0xffe8) >> 4 & 15, 3, "GICD_PIDR2: GICv3");
    check_eq(read_icc(ICC_SRE) & 1, 1, "system register interface");
    check_eq(read_icc(ICC_IAR1), 1023, "nothing pending");
    check_eq(read_icc(ICC_RPR), 0xff, "idle priority");
    check_eq(mmio64(GICR + 8) >> 32, read_sysreg(mpidr_el1) & 0xffffff, "GICR_TYPER affinity");

    // SGI to self.
    gic_enable(0, 3, 0x80, 1);
    irq_on();
    send_sgi_self(3);
    settle();
    check_eq(taken, 1, "SGI taken once");
    check_eq(order[0], 3, "SGI number");
    gic_enable(0, 3, 0x80, 0);
    send_sgi_self(3);
    settle();
    check_eq(taken, 1, "disabled SGI stays pending");
    check_eq(mmio32(GICR + 0x10200) & 8, 8, "pending in GICR_ISPENDR0");
    gic_enable(0, 3, 0x80, 1);
    settle();
    check_eq(taken, 2, "taken when enabled");

    // Priority order among SPIs made pending while masked.
    irq_off();
    taken = 0;
    u32 ids[4] = {90, 91, 92, 93};
    u8 prios[4] = {0xa0, 0x40, 0xc0, 0x40};
    for (int i = 0; i < 4; i++) {
        gic_enable(0, ids[i], prios[i], 1);
        mmio32(GICD + 0xc00 + 4 * (ids[i] / 16)) |= 2u << 2 * (ids[i] % 16); // edge
        pend(ids[i]);
    }
    settle();
    check_eq(read_icc(ICC_HPPIR1), 91, "HPPIR: highest priority, lowest number");
    irq_on();
    settle();
    check_eq(taken, 4, "four SPIs");
    check_eq(order[0] << 24 | order[1] << 16 | order[2] << 8 | order[3], 91u << 24 | 93u << 16 | 90u << 8 | 92u, "priority order");

    // Preemption: a higher priority interrupts the handler, an equal one does not.
    taken = deepest = 0;
    raise_inside = 91;
    pend(90);
    settle();
    check_eq(taken, 2, "preemption: both taken");
    check_eq(deepest, 2, "preemption: nested");
    check_eq(order[1], 91, "preemption: second");
    taken = deepest = 0;
    raise_inside = 93;
    pend(91);
    settle();
    check_eq(taken, 2, "equal priority: both taken");
    check_eq(deepest, 1, "equal priority: not nested");
    // The binary point leaves bits [7:n] for preemption.
    write_icc(7, ICC_BPR1);
    taken = deepest = 0;
    raise_inside = 91;
    pend(90);
    settle();
    check_eq(deepest, 2, "BPR 7: the top bit still preempts");
    gic_enable(0, 90, 0x60, 1);
    taken = deepest = 0;
    raise_inside = 91;
    pend(90);
    settle();
    check_eq(deepest, 1, "BPR 7: no preemption below the top bit");
    gic_enable(0, 90, 0xa0, 1);
    write_icc(0, ICC_BPR1);

    // Priority mask.
    taken = 0;
    write_icc(0x80, ICC_PMR);
    isb();
    pend(90);
    settle();
    check_eq(taken, 0, "masked by PMR");
    write_icc(0xf8, ICC_PMR);
    isb();
    settle();
    check_eq(taken, 1, "PMR opened");

    // EOImode 1: EOIR drops the priority, DIR deactivates.
    irq_off();
    write_icc(2, ICC_CTLR);
    isb();
    pend(90);
    settle();
    u64 iar = read_icc(ICC_IAR1);
    check_eq(iar, 90, "acknowledged by hand");
    check_eq(read_icc(ICC_RPR), 0xa0, "running priority");
    check_eq(mmio32(GICD + 0x300 + 4 * (90 / 32)) >> 90 % 32 & 1, 1, "active");
    pend(90);
    settle();
    write_icc(iar, ICC_EOIR1);
    isb();
    check_eq(read_icc(ICC_RPR), 0xff, "priority dropped");
    check_eq(read_icc(ICC_HPPIR1), 1023, "active and pending is not signalled");
    write_icc(iar, ICC_DIR);
    isb();
    settle();
    check_eq(read_icc(ICC_HPPIR1), 90, "signalled again after DIR");
    iar = read_icc(ICC_IAR1);
    write_icc(iar, ICC_EOIR1);
    write_icc(iar, ICC_DIR);
    write_icc(0, ICC_CTLR);
    isb();

    // A PPI's and SPI's state by registers.
    mmio32(GICD + 0x280 + 4 * (90 / 32)) = 1u << 90 % 32;
    check_eq(mmio32(GICD + 0x200 + 4 * (90 / 32)) >> 90 % 32 & 1, 0, "ICPENDR");
    check_eq(mmio8(GICD + 0x400 + 90), 0xa0, "IPRIORITYR by byte");
    finish();
}

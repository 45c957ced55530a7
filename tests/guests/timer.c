// Generic timers: compare values, status, masks, level interrupts through the GIC, wake-up from WFI.
#include "guest.h"

static volatile u64 interrupts, last_intid;
static void take_irq(u64 vector, struct frame *f) {
    (void)vector, (void)f;
    u64 iar = read_icc(ICC_IAR1);
    last_intid = iar;
    interrupts++;
    if (iar == 27) write_sysreg(2 | 1, cntv_ctl_el0); // level: masked until rearmed
    if (iar == 30) write_sysreg(2 | 1, cntp_ctl_el0);
    isb();
    write_icc(iar, ICC_EOIR1);
}

// Sleeps until the handler has counted up. Between the look and WFI the interrupt must stay masked, or it could be taken
// there and WFI would sleep for ever.
static void sleep_until(u64 count) {
    irq_off();
    while (interrupts < count) {
        wfi();
        irq_on();
        isb();
        irq_off();
    }
    irq_on();
}

int main(void) {
    u64 frequency = read_sysreg(cntfrq_el0);
    gic_init();
    gic_init_cpu(0);
    on_irq = take_irq;

    u64 a = counter(), b = counter();
    check(b >= a, "counter is monotonic");
    spin_ms(2);
    check(counter() - a >= frequency / 1000, "counter advances");

    write_sysreg(0, cntv_ctl_el0);
    write_sysreg(frequency, cntv_tval_el0);
    u64 cval = read_sysreg(cntv_cval_el0);
    check(cval > counter() && cval <= counter() + frequency, "CVAL follows TVAL");
    write_sysreg(1, cntv_ctl_el0);
    isb();
    check_eq(read_sysreg(cntv_ctl_el0), 1, "not yet");
    write_sysreg(-1, cntv_tval_el0);
    isb();
    check_eq(read_sysreg(cntv_ctl_el0), 5, "ISTATUS");
    check((int)read_sysreg(cntv_tval_el0) < 0, "TVAL reads negative after the time");
    check_eq(read_icc(ICC_HPPIR1), 1023, "disabled in the GIC");
    write_sysreg(0, cntv_ctl_el0);

    gic_enable(0, 27, 0x80, 1);
    gic_enable(0, 30, 0x80, 1);
    irq_on();
    write_sysreg(frequency / 100, cntv_tval_el0);
    write_sysreg(1, cntv_ctl_el0);
    sleep_until(1);
    check_eq(interrupts, 1, "virtual timer interrupt, once");
    check_eq(last_intid, 27, "virtual timer is PPI 27");
    write_sysreg(0, cntv_ctl_el0);

    interrupts = 0;
    write_sysreg(counter() + frequency / 100, cntp_cval_el0);
    write_sysreg(1, cntp_ctl_el0);
    while (!interrupts) { // a busy loop must be interrupted too
    }
    check_eq(last_intid, 30, "physical timer is PPI 30");
    write_sysreg(0, cntp_ctl_el0);

    interrupts = 0;
    for (int i = 0; i < 100; i++) {
        u64 before = interrupts;
        write_sysreg(frequency / 10000, cntv_tval_el0);
        write_sysreg(1, cntv_ctl_el0);
        isb();
        sleep_until(before + 1);
    }
    check_eq(interrupts, 100, "a hundred ticks");
    write_sysreg(0, cntv_ctl_el0);

    // WFI ends with a pending interrupt that PSTATE masks.
    irq_off();
    interrupts = 0;
    write_sysreg(frequency / 200, cntv_tval_el0);
    write_sysreg(1, cntv_ctl_el0);
    isb();
    wfi();
    while (!(read_sysreg(cntv_ctl_el0) & 4)) {
    }
    check_eq(interrupts, 0, "masked in PSTATE");
    check_eq(read_sysreg(isr_el1) & 0x80, 0x80, "ISR_EL1.I");
    irq_on();
    isb();
    check_eq(interrupts, 1, "taken when unmasked");
    finish();
}

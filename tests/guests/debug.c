// Self-hosted debug: breakpoints, watchpoints, single-step.
#include "guest.h"

static volatile u64 target;
static volatile u64 trace[16], traced;
static u64 step_from;
static void step_handler(u64 vector, struct frame *f) {
    (void)vector;
    if (EC(f->esr) == 0x33) { // software step, same EL
        if (traced < 16) trace[traced] = f->elr;
        if (++traced < 3) f->spsr |= 1ul << 21;
        else {
            f->spsr &= ~(1ul << 21);
            write_sysreg(read_sysreg(mdscr_el1) & ~1ul, mdscr_el1);
        }
        return;
    }
    if (EC(f->esr) == 0x15) { // start: arm the step, with debug exceptions unmasked after the return
        write_sysreg(read_sysreg(mdscr_el1) | 1 | 1 << 13, mdscr_el1);
        f->spsr = (f->spsr & ~0x200ul) | 1ul << 21;
        step_from = f->elr;
        return;
    }
    skip_instruction(vector, f);
}
static void break_handler(u64 vector, struct frame *f) {
    skip_instruction(vector, f);
    f->elr -= 4; // a breakpoint comes before its instruction
    write_sysreg(0, dbgbcr0_el1);
}
static void watch_handler(u64 vector, struct frame *f) { skip_instruction(vector, f); }

__attribute__((noinline)) static void victim(void) { asm volatile("nop" ::: "memory"); }

int main(void) {
    write_sysreg(0, oslar_el1);
    isb();
    check_eq(read_sysreg(oslsr_el1) & 2, 0, "OS lock is off");
    u64 dfr0 = read_sysreg(id_aa64dfr0_el1);
    check((dfr0 & 15) >= 6, "DebugVer");

    on_sync = step_handler;
    asm volatile("svc #1\n nop\n nop\n nop\n nop\n nop" ::: "memory");
    check_eq(traced, 3, "three steps");
    for (u64 i = 0; i < 3; i++) check_eq(trace[i], step_from + 4 * (i + 1), "step by step");

    on_sync = break_handler;
    write_sysreg(victim, dbgbvr0_el1);
    write_sysreg(1 | 1 << 1 | 0xf << 5, dbgbcr0_el1); // enabled, EL1, all bytes
    write_sysreg(read_sysreg(mdscr_el1) | 1 << 15 | 1 << 13, mdscr_el1);
    asm volatile("msr daifclr, #8\n isb" ::: "memory");
    seen.count = 0;
    victim();
    check_eq(seen.count, 1, "breakpoint");
    check_eq(EC(seen.esr), 0x31, "breakpoint EC");
    check_eq(seen.elr, (u64)victim, "breakpoint ELR");

    on_sync = watch_handler;
    write_sysreg(&target, dbgwvr0_el1);
    write_sysreg(1 | 1 << 1 | 2 << 3 | 0xff << 5, dbgwcr0_el1); // enabled, EL1, stores
    isb();
    seen.count = 0;
    u64 v;
    asm volatile("ldr %0, [%1]" : "=&r"(v) : "r"(&target) : "memory");
    check_eq(seen.count, 0, "a load does not hit a store watchpoint");
    asm volatile("str %0, [%1]" : : "r"(5ul), "r"(&target) : "memory");
    check_eq(seen.count, 1, "watchpoint");
    check_eq(EC(seen.esr), 0x35, "watchpoint EC");
    check_eq(seen.esr >> 6 & 1, 1, "watchpoint WnR");
    check_eq(seen.far, (u64)&target, "watchpoint FAR");
    check_eq(target, 0, "the store did not happen");
    write_sysreg(0, dbgwcr0_el1);
    isb();
    asm volatile("str %0, [%1]" : : "r"(5ul), "r"(&target) : "memory");
    check_eq(target, 5, "disabled again");
    finish();
}

// Interrupts of devices: their wires are levels, which rise with the cause and fall with it.
#include "guest.h"

#define UART_INTID 33
#define RTC_INTID 34
#define UARTIMSC (UART + 0x38)
#define UARTICR (UART + 0x44)
#define TX (1u << 5)
#define RTC 0x09010000ul
#define RTCMR (RTC + 0x4)
#define RTCIMSC (RTC + 0x10)
#define RTCRIS (RTC + 0x14)
#define RTCICR (RTC + 0x1c)

static volatile u32 taken, last, deaf;
static u32 pending(u32 intid) { return mmio32(GICD + 0x200 + 4 * (intid / 32)) >> intid % 32 & 1; }
static void take_irq(u64 vector, struct frame *f) {
    (void)vector;
    (void)f;
    u64 iar = read_icc(ICC_IAR1);
    if (iar >= 1020) return;
    last = iar;
    taken++;
    if (deaf) {
        deaf--;
    } else {
        if (iar == UART_INTID) mmio32(UARTICR) = TX;
        if (iar == RTC_INTID) mmio32(RTCICR) = 1;
        dsb();
    }
    write_icc(iar, ICC_EOIR1);
    isb();
}

int main(void) {
    gic_init();
    gic_init_cpu(0);
    on_irq = take_irq;
    gic_enable(0, UART_INTID, 0x80, 1);
    gic_enable(0, RTC_INTID, 0x80, 1);

    // A level that nobody takes falls again.
    mmio32(UARTICR) = TX;
    put(' ');
    settle();
    check_eq(pending(UART_INTID), 0, "masked in the device");
    mmio32(UARTIMSC) = TX;
    settle();
    check_eq(pending(UART_INTID), 1, "the wire rises");
    mmio32(UARTICR) = TX;
    settle();
    check_eq(pending(UART_INTID), 0, "the wire falls");
    irq_on();
    settle();
    check_eq(taken, 0, "nothing is left of it");

    // One cause, one interrupt; a cause that stays is taken again.
    put(' ');
    settle();
    check_eq(taken, 1, "taken once");
    check_eq(last, UART_INTID, "PL011 is SPI 1");
    deaf = 2;
    put(' ');
    settle();
    check_eq(taken, 4, "taken until its cause is gone");
    mmio32(UARTIMSC) = 0;

    // An alarm: the processor sleeps until then.
    taken = 0;
    mmio32(RTCICR) = 1;
    mmio32(RTCMR) = mmio32(RTC) + 1;
    mmio32(RTCIMSC) = 1;
    for (int i = 0; i < 1000000 && !taken; i++) {
        irq_off();
        if (!taken) wfi();
        irq_on();
        isb();
    }
    check_eq(taken, 1, "the alarm");
    check_eq(last, RTC_INTID, "PL031 is SPI 2");
    check_eq(mmio32(RTCRIS), 0, "and its end");
    finish();
}

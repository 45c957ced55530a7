// Writes to three pages for ever: they are what a log of written pages has, and nothing else is.
#include "guest.h"

int main(void) {
    print("DIRTY!");
    asm volatile("1: str %0, [%0]\n"
                 "   str %0, [%1]\n"
                 "   strb wzr, [%1, #4095]\n"
                 "   ldr x9, [%2]\n"
                 "   str %0, [%3]\n"
                 "   b 1b\n"
                 :
                 : "r"(0x40400000ul), "r"(0x40500000ul), "r"(0x40600000ul), "r"(0x40700ff8ul)
                 : "x9", "memory");
    finish();
}

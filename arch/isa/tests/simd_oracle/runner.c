/*
 * Runs single A64 SIMD instructions on given register values and memory, for tests that compare with another implementation of the
 * architecture. Built static for arm64 and run under qemu-aarch64 or on real hardware.
 *
 * stdin: any number of struct request; stdout: one struct reply each. Little-endian. The instruction may use any V register, x0 to x7
 * but x1, and x1 as base address: on input an offset into the memory window, on output too.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

enum { WINDOW = 4096 };

struct regs {
    uint64_t v[32][2];
    uint64_t x[8];
    uint64_t fpsr;
};

struct request {
    uint32_t word, seed; /* the window is filled from the seed */
    struct regs regs;
};

struct reply {
    struct regs regs;
    uint8_t window[WINDOW];
};

#define EACH(f) f(0,1) f(2,3) f(4,5) f(6,7) f(8,9) f(10,11) f(12,13) f(14,15) f(16,17) f(18,19) f(20,21) f(22,23) f(24,25) f(26,27) f(28,29) f(30,31)
#define LOAD(a, b) "ldp q" #a ", q" #b ", [x9], #32\n"
#define STORE(a, b) "stp q" #a ", q" #b ", [x9], #32\n"

static void run(void *code, struct regs *regs)
{
    register struct regs *r asm("x9") = regs;
    register void *c asm("x11") = code;
    asm volatile("mov x10, x9\n"
                 EACH(LOAD)
                 "ldp x0, x1, [x9]\n"
                 "ldp x2, x3, [x9, #16]\n"
                 "ldp x4, x5, [x9, #32]\n"
                 "ldp x6, x7, [x9, #48]\n"
                 "ldr x12, [x9, #64]\n"
                 "msr fpsr, x12\n"
                 "mov x9, x10\n"
                 "blr x11\n"
                 EACH(STORE)
                 "mrs x12, fpsr\n"
                 "stp x0, x1, [x9]\n"
                 "stp x2, x3, [x9, #16]\n"
                 "stp x4, x5, [x9, #32]\n"
                 "stp x6, x7, [x9, #48]\n"
                 "str x12, [x9, #64]\n"
                 : "+r"(r), "+r"(c)
                 :
                 : "x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x10", "x12", "x30", "cc", "memory",
                   "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15",
                   "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
}

int main(void)
{
    static struct request in;
    static struct reply out;
    static uint8_t window[WINDOW] __attribute__((aligned(4096)));
    uint32_t *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return 2;
    while (fread(&in, sizeof in, 1, stdin) == 1) {
        uint32_t state = in.seed;
        for (int i = 0; i < WINDOW; i++) {
            state = state * 1664525 + 1013904223;
            window[i] = state >> 24;
        }
        code[0] = in.word;
        code[1] = 0xd65f03c0; /* ret */
        __builtin___clear_cache((char *)code, (char *)(code + 2));
        in.regs.x[1] += (uintptr_t)window;
        run(code, &in.regs);
        in.regs.x[1] -= (uintptr_t)window;
        out.regs = in.regs;
        memcpy(out.window, window, WINDOW);
        if (fwrite(&out, sizeof out, 1, stdout) != 1 || fflush(stdout))
            return 3;
    }
    return 0;
}

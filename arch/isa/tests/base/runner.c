/*
 * Runs single A64 instructions of the base set on given register values and memory, for tests that compare with another
 * implementation of the architecture. Built static for arm64 and run under qemu-aarch64 or on real hardware.
 *
 * stdin: any number of struct request; stdout: one struct reply each. Little-endian. The instruction may use x0 to x15, x30 and SP. It
 * stands at CODE + 4, behind an instruction `prefix`; a branch of it goes to CODE + 12. The words of the code page from CODE + 256 on and
 * the memory window are filled from the seed.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define CODE 0x2000000000ull
#define WINDOW 0x1000000000ull
enum { SIZE = 4096 };

struct regs {
    uint64_t x[16], x30, sp, nzcv, taken;
};

struct request {
    uint32_t prefix, word;
    uint64_t seed;
    struct regs regs;
};

struct reply {
    struct regs regs;
    uint8_t window[SIZE];
};

void run(struct regs *regs, void *code);

asm(".global run\n"
    "run: stp x29, x30, [sp, #-96]!\n"
    "stp x19, x20, [sp, #16]\n"
    "stp x21, x22, [sp, #32]\n"
    "stp x23, x24, [sp, #48]\n"
    "stp x25, x26, [sp, #64]\n"
    "stp x27, x28, [sp, #80]\n"
    "mov x28, x0\n"
    "mov x27, x1\n"
    "adr x26, 1f\n"
    "mov x25, sp\n"
    "ldr x16, [x28, #136]\n"
    "mov sp, x16\n"
    "ldr x16, [x28, #144]\n"
    "msr nzcv, x16\n"
    "ldr x30, [x28, #128]\n"
    "ldp x0, x1, [x28]\n"
    "ldp x2, x3, [x28, #16]\n"
    "ldp x4, x5, [x28, #32]\n"
    "ldp x6, x7, [x28, #48]\n"
    "ldp x8, x9, [x28, #64]\n"
    "ldp x10, x11, [x28, #80]\n"
    "ldp x12, x13, [x28, #96]\n"
    "ldp x14, x15, [x28, #112]\n"
    "clrex\n"
    "br x27\n"
    "1: stp x0, x1, [x28]\n"
    "stp x2, x3, [x28, #16]\n"
    "stp x4, x5, [x28, #32]\n"
    "stp x6, x7, [x28, #48]\n"
    "stp x8, x9, [x28, #64]\n"
    "stp x10, x11, [x28, #80]\n"
    "stp x12, x13, [x28, #96]\n"
    "stp x14, x15, [x28, #112]\n"
    "str x30, [x28, #128]\n"
    "mov x16, sp\n"
    "str x16, [x28, #136]\n"
    "mrs x16, nzcv\n"
    "str x16, [x28, #144]\n"
    "str x24, [x28, #152]\n"
    "mov sp, x25\n"
    "ldp x19, x20, [sp, #16]\n"
    "ldp x21, x22, [sp, #32]\n"
    "ldp x23, x24, [sp, #48]\n"
    "ldp x25, x26, [sp, #64]\n"
    "ldp x27, x28, [sp, #80]\n"
    "ldp x29, x30, [sp], #96\n"
    "ret\n");

static void fill(uint8_t *p, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) {
        *state = *state * 6364136223846793005ull + 1442695040888963407ull;
        p[i] = *state >> 56;
    }
}

int main(void)
{
    static struct request in;
    static struct reply out;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    uint32_t *code = mmap((void *)CODE, SIZE, PROT_READ | PROT_WRITE | PROT_EXEC, flags, -1, 0);
    uint8_t *window = mmap((void *)WINDOW, SIZE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (code != (void *)CODE || window != (void *)WINDOW)
        return 2;
    while (fread(&in, sizeof in, 1, stdin) == 1) {
        uint64_t state = in.seed;
        fill(window, SIZE, &state);
        fill((uint8_t *)code + 256, SIZE - 256, &state);
        code[0] = in.prefix;
        code[1] = in.word;
        code[2] = 0x14000003; /* b code[5] */
        code[3] = 0xd2800038; /* mov x24, #1 */
        code[4] = 0xd61f0340; /* br x26 */
        code[5] = 0xd2800018; /* mov x24, #0 */
        code[6] = 0xd61f0340; /* br x26 */
        __builtin___clear_cache((char *)code, (char *)(code + 7));
        run(&in.regs, code);
        out.regs = in.regs;
        memcpy(out.window, window, SIZE);
        if (fwrite(&out, sizeof out, 1, stdout) != 1 || fflush(stdout))
            return 3;
    }
    return 0;
}

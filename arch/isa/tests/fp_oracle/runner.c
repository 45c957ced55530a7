/*
 * Runs single A64 instructions on given register values, for tests that compare with another implementation of the architecture.
 * Built static for arm64 and run under qemu-aarch64 or on real hardware.
 *
 * stdin: any number of { uint32 word, uint32 count, struct input[count] }; stdout: one struct output per input. Little-endian.
 * The instruction may use v0..v3, x0..x3 and NZCV.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

struct input {
    uint64_t v[4][2];
    uint64_t x[4];
    uint64_t fpcr, fpsr, nzcv;
};

struct output {
    uint64_t v0[2];
    uint64_t x0, nzcv, fpsr;
};

static void run(void *code, const struct input *in, struct output *out)
{
    register const struct input *i asm("x9") = in;
    register struct output *o asm("x10") = out;
    register void *c asm("x11") = code;
    asm volatile("ldp q0, q1, [x9]\n"
                 "ldp q2, q3, [x9, #32]\n"
                 "ldp x0, x1, [x9, #64]\n"
                 "ldp x2, x3, [x9, #80]\n"
                 "ldp x12, x13, [x9, #96]\n"
                 "ldr x14, [x9, #112]\n"
                 "msr fpcr, x12\n"
                 "msr fpsr, x13\n"
                 "msr nzcv, x14\n"
                 "blr x11\n"
                 "mrs x12, nzcv\n"
                 "mrs x13, fpsr\n"
                 "msr fpcr, xzr\n"
                 "str q0, [x10]\n"
                 "stp x0, x12, [x10, #16]\n"
                 "str x13, [x10, #32]\n"
                 : "+r"(i), "+r"(o), "+r"(c)
                 :
                 : "x0", "x1", "x2", "x3", "x12", "x13", "x14", "x30", "v0", "v1", "v2", "v3", "cc", "memory");
}

int main(void)
{
    uint32_t head[2];
    uint32_t *code = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED)
        return 2;
    while (fread(head, sizeof head, 1, stdin) == 1) {
        struct input *in = malloc(head[1] * sizeof *in + 1);
        struct output *out = malloc(head[1] * sizeof *out + 1);
        if (!in || !out || fread(in, sizeof *in, head[1], stdin) != head[1])
            return 3;
        code[0] = head[0];
        code[1] = 0xd65f03c0; /* ret */
        __builtin___clear_cache((char *)code, (char *)(code + 2));
        for (uint32_t k = 0; k < head[1]; k++)
            run(code, &in[k], &out[k]);
        if (fwrite(out, sizeof *out, head[1], stdout) != head[1] || fflush(stdout))
            return 4;
        free(in);
        free(out);
    }
    return 0;
}

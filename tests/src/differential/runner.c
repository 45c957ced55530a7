/*
 * Runs blocks of A64 instructions under qemu-aarch64 (or on a real arm64 machine) and reports the state they leave.
 *
 * stdin:  records of struct request followed by `words` instruction words
 * stdout: per request one struct reply, followed by the whole data window where DUMP_WINDOW was asked for
 *
 * The block runs at CODE; memory that it may touch is the window at DATA, refilled from `seed` before each block. Both
 * addresses are the same in the machine that the block is compared with. A signal ends the block: the reply carries its
 * number and the registers of the signal frame.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CODE 0x20000000ul
#define DATA 0x10000000ul
#define DATA_LEN 0x28000ul
#define MAX_WORDS 4096
#define DUMP_WINDOW 1u

struct state {
    uint64_t x[31];
    uint64_t sp;
    uint64_t nzcv;
    uint64_t fpcr;
    uint64_t fpsr;
    uint64_t pc; /* out: where a signal stopped the block, or its end */
    uint64_t v[64];
};

struct request {
    uint32_t words;
    uint32_t flags;
    uint64_t seed;
    struct state in;
};

struct reply {
    uint64_t signal;
    uint64_t window_hash;
    struct state out;
};

/* Offsets into struct state, used by the stubs below. */
#define O_SP "248"
#define O_NZCV "256"
#define O_FPCR "264"
#define O_FPSR "272"
#define O_V "288"

static struct state host_state; /* the caller's registers while a block runs */
static struct state guest_state;
static volatile int caught;

/* Loads every register from x30 = &guest_state and falls into the block that follows it in the code buffer. */
__asm__(".globl load_stub, load_stub_end\n"
        "load_stub:\n"
        "  ldr x0, [x30, #" O_NZCV "]\n  msr nzcv, x0\n"
        "  ldr x0, [x30, #" O_FPCR "]\n  msr fpcr, x0\n"
        "  ldr x0, [x30, #" O_FPSR "]\n  msr fpsr, x0\n"
        "  ldr x0, [x30, #" O_SP "]\n  mov sp, x0\n"
        "  add x0, x30, #" O_V "\n"
        "  ldp q0, q1, [x0, #0]\n  ldp q2, q3, [x0, #32]\n  ldp q4, q5, [x0, #64]\n  ldp q6, q7, [x0, #96]\n"
        "  ldp q8, q9, [x0, #128]\n  ldp q10, q11, [x0, #160]\n  ldp q12, q13, [x0, #192]\n  ldp q14, q15, [x0, #224]\n"
        "  ldp q16, q17, [x0, #256]\n  ldp q18, q19, [x0, #288]\n  ldp q20, q21, [x0, #320]\n  ldp q22, q23, [x0, #352]\n"
        "  ldp q24, q25, [x0, #384]\n  ldp q26, q27, [x0, #416]\n  ldp q28, q29, [x0, #448]\n  ldp q30, q31, [x0, #480]\n"
        "  ldp x0, x1, [x30, #0]\n  ldp x2, x3, [x30, #16]\n  ldp x4, x5, [x30, #32]\n  ldp x6, x7, [x30, #48]\n"
        "  ldp x8, x9, [x30, #64]\n  ldp x10, x11, [x30, #80]\n  ldp x12, x13, [x30, #96]\n  ldp x14, x15, [x30, #112]\n"
        "  ldp x16, x17, [x30, #128]\n  ldp x18, x19, [x30, #144]\n  ldp x20, x21, [x30, #160]\n  ldp x22, x23, [x30, #176]\n"
        "  ldp x24, x25, [x30, #192]\n  ldp x26, x27, [x30, #208]\n  ldp x28, x29, [x30, #224]\n  ldr x30, [x30, #240]\n"
        "load_stub_end:\n"
        /* Follows the block. TPIDR_EL0 is the one scratch register that the block leaves alone. */
        ".globl store_stub, store_stub_end\n"
        "store_stub:\n"
        "  msr tpidr_el0, x30\n"
        "  ldr x30, 1f\n"
        "  stp x0, x1, [x30, #0]\n  stp x2, x3, [x30, #16]\n  stp x4, x5, [x30, #32]\n  stp x6, x7, [x30, #48]\n"
        "  stp x8, x9, [x30, #64]\n  stp x10, x11, [x30, #80]\n  stp x12, x13, [x30, #96]\n  stp x14, x15, [x30, #112]\n"
        "  stp x16, x17, [x30, #128]\n  stp x18, x19, [x30, #144]\n  stp x20, x21, [x30, #160]\n  stp x22, x23, [x30, #176]\n"
        "  stp x24, x25, [x30, #192]\n  stp x26, x27, [x30, #208]\n  stp x28, x29, [x30, #224]\n"
        "  mrs x0, tpidr_el0\n  str x0, [x30, #240]\n"
        "  mov x0, sp\n  str x0, [x30, #" O_SP "]\n"
        "  mrs x0, nzcv\n  str x0, [x30, #" O_NZCV "]\n"
        "  mrs x0, fpcr\n  str x0, [x30, #" O_FPCR "]\n"
        "  mrs x0, fpsr\n  str x0, [x30, #" O_FPSR "]\n"
        "  add x0, x30, #" O_V "\n"
        "  stp q0, q1, [x0, #0]\n  stp q2, q3, [x0, #32]\n  stp q4, q5, [x0, #64]\n  stp q6, q7, [x0, #96]\n"
        "  stp q8, q9, [x0, #128]\n  stp q10, q11, [x0, #160]\n  stp q12, q13, [x0, #192]\n  stp q14, q15, [x0, #224]\n"
        "  stp q16, q17, [x0, #256]\n  stp q18, q19, [x0, #288]\n  stp q20, q21, [x0, #320]\n  stp q22, q23, [x0, #352]\n"
        "  stp q24, q25, [x0, #384]\n  stp q26, q27, [x0, #416]\n  stp q28, q29, [x0, #448]\n  stp q30, q31, [x0, #480]\n"
        "  ldr x30, 2f\n  br x30\n"
        "  .balign 8\n"
        "1: .quad guest_state\n"
        "2: .quad after_block\n"
        "store_stub_end:\n");

/* Saves the caller's registers, enters the code buffer, and comes back at after_block. */
__asm__(".globl enter_block, after_block\n"
        "enter_block:\n" /* x0 = code buffer, x1 = &host_state */
        "  stp x19, x20, [x1, #152]\n  stp x21, x22, [x1, #168]\n  stp x23, x24, [x1, #184]\n  stp x25, x26, [x1, #200]\n"
        "  stp x27, x28, [x1, #216]\n  stp x29, x30, [x1, #232]\n"
        "  mov x2, sp\n  str x2, [x1, #" O_SP "]\n"
        "  mrs x2, tpidr_el0\n  str x2, [x1, #0]\n"
        "  mrs x2, fpcr\n  str x2, [x1, #" O_FPCR "]\n"
        "  add x2, x1, #" O_V "\n"
        "  stp q8, q9, [x2, #0]\n  stp q10, q11, [x2, #32]\n  stp q12, q13, [x2, #64]\n  stp q14, q15, [x2, #96]\n"
        "  adrp x30, guest_state\n  add x30, x30, :lo12:guest_state\n"
        "  br x0\n"
        "after_block:\n"
        "  adrp x1, host_state\n  add x1, x1, :lo12:host_state\n"
        "  ldr x2, [x1, #0]\n  msr tpidr_el0, x2\n"
        "  ldr x2, [x1, #" O_FPCR "]\n  msr fpcr, x2\n"
        "  ldr x2, [x1, #" O_SP "]\n  mov sp, x2\n"
        "  add x2, x1, #" O_V "\n"
        "  ldp q8, q9, [x2, #0]\n  ldp q10, q11, [x2, #32]\n  ldp q12, q13, [x2, #64]\n  ldp q14, q15, [x2, #96]\n"
        "  ldp x19, x20, [x1, #152]\n  ldp x21, x22, [x1, #168]\n  ldp x23, x24, [x1, #184]\n  ldp x25, x26, [x1, #200]\n"
        "  ldp x27, x28, [x1, #216]\n  ldp x29, x30, [x1, #232]\n"
        "  ret\n");

extern const uint32_t load_stub[], load_stub_end[], store_stub[], store_stub_end[];
extern void enter_block(void *code, struct state *host);
extern char after_block[];

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)info;
    ucontext_t *uc = context;
    mcontext_t *m = &uc->uc_mcontext;
    caught = number;
    memcpy(guest_state.x, m->regs, sizeof guest_state.x);
    guest_state.sp = m->sp;
    guest_state.nzcv = m->pstate & 0xf0000000u;
    guest_state.pc = m->pc;
    struct fpsimd_context *fp = (void *)m->__reserved;
    if (fp->head.magic == FPSIMD_MAGIC) {
        memcpy(guest_state.v, fp->vregs, sizeof guest_state.v);
        guest_state.fpcr = fp->fpcr;
        guest_state.fpsr = fp->fpsr;
    }
    /* Continue at after_block, which restores the caller from host_state. */
    m->pc = (uintptr_t)after_block;
}

static void fill(uint64_t *at, uint64_t bytes, uint64_t s) {
    for (uint64_t i = 0; i < bytes / 8; i++) {
        s ^= s << 13, s ^= s >> 7, s ^= s << 17;
        at[i] = s;
    }
}

static uint64_t hash(const uint64_t *at, uint64_t bytes) {
    uint64_t h = 0xcbf29ce484222325u;
    for (uint64_t i = 0; i < bytes / 8; i++)
        h = (h ^ at[i]) * 0x100000001b3u + (h >> 32);
    return h;
}

static int read_all(void *to, size_t n) {
    char *p = to;
    while (n) {
        ssize_t k = read(0, p, n);
        if (k <= 0) return 0;
        p += k, n -= k;
    }
    return 1;
}

static void write_all(const void *from, size_t n) {
    const char *p = from;
    while (n) {
        ssize_t k = write(1, p, n);
        if (k <= 0) exit(3);
        p += k, n -= k;
    }
}

int main(void) {
    uint32_t *code = mmap((void *)CODE, 0x10000, PROT_READ | PROT_WRITE | PROT_EXEC,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint64_t *data = mmap((void *)DATA, DATA_LEN, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    uint64_t *pristine = malloc(DATA_LEN);
    if (code != (void *)CODE || data != (void *)DATA || !pristine) {
        fprintf(stderr, "runner: cannot map its windows: %s\n", strerror(errno));
        return 2;
    }
    stack_t ss = {.ss_sp = malloc(65536), .ss_size = 65536};
    sigaltstack(&ss, 0);
    struct sigaction sa = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int signals[] = {SIGILL, SIGSEGV, SIGBUS, SIGTRAP, SIGFPE};
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &sa, 0);

    size_t load = load_stub_end - load_stub, store = store_stub_end - store_stub;
    /* The block starts at CODE + 0x400; the stub that loads the registers ends just before it. */
    uint32_t *block = code + 0x100;
    memcpy(block - load, load_stub, load * 4);
    static uint32_t words[MAX_WORDS];
    uint64_t filled = 0;
    struct request rq;
    while (read_all(&rq, sizeof rq)) {
        if (rq.words > MAX_WORDS || !read_all(words, rq.words * 4)) return 2;
        if (rq.seed != filled) fill(pristine, DATA_LEN, filled = rq.seed);
        memcpy(data, pristine, DATA_LEN);
        memcpy(block, words, rq.words * 4);
        /* The store stub is 8-byte aligned so that its literals are. */
        uint32_t *end = block + rq.words;
        memcpy(end, store_stub, store * 4);
        __builtin___clear_cache((char *)code, (char *)(end + store));
        guest_state = rq.in;
        guest_state.pc = (uintptr_t)end;
        caught = 0;
        enter_block(block - load, &host_state);
        struct reply rp = {.signal = caught, .out = guest_state};
        rp.window_hash = hash(data, DATA_LEN);
        write_all(&rp, sizeof rp);
        if (rq.flags & DUMP_WINDOW) write_all(data, DATA_LEN);
    }
    return 0;
}

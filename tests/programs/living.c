// What makes a kernel rewrite its own code, driven from user space:
//   living calls N THREADS      each thread makes N calls of sched_get_priority_max, which nothing else calls
//   living bpf ROUNDS THREADS   each thread loads programs for the kernel's BPF compiler, another each time, and looks at what they compute
#define _GNU_SOURCE
#include <linux/bpf.h>
#include <linux/filter.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static long rounds;

static void fail(const char *what, long thread, long round) {
    perror(what);
    printf("living: %s failed, thread %ld, round %ld\n", what, thread, round);
    exit(1);
}

static void *calls(void *thread) {
    for (long i = 0; i < rounds; i++)
        if (syscall(SYS_sched_get_priority_max, 1) != 99) fail("sched_get_priority_max", (long)thread, i);
    return 0;
}

static long bpf(int command, union bpf_attr *attr) { return syscall(SYS_bpf, command, attr, sizeof *attr); }
#define INSN(c, d, s, o, i) ((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i)})
#define PASSES 150

// An eBPF program with other constants each time: what the compiler writes lies where the last program's code lay.
static void extended(long thread, long round) {
    uint64_t seed = 0x9e3779b97f4a7c15ull * (round * 64 + thread + 1), factor = 0x5851f42d4c957f2dull ^ (uint64_t)round << 7;
    int32_t addend = (int32_t)(round * 2654435761u);
    struct bpf_insn program[] = {
        INSN(BPF_LD | BPF_DW | BPF_IMM, 6, 0, 0, (int32_t)seed), INSN(0, 0, 0, 0, (int32_t)(seed >> 32)),
        INSN(BPF_LD | BPF_DW | BPF_IMM, 7, 0, 0, (int32_t)factor), INSN(0, 0, 0, 0, (int32_t)(factor >> 32)),
        INSN(BPF_ALU64 | BPF_MOV | BPF_K, 8, 0, 0, PASSES),
        INSN(BPF_ALU64 | BPF_MUL | BPF_X, 6, 7, 0, 0),
        INSN(BPF_ALU64 | BPF_ADD | BPF_K, 6, 0, 0, addend),
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, 9, 6, 0, 0),
        INSN(BPF_ALU64 | BPF_RSH | BPF_K, 9, 0, 0, 29),
        INSN(BPF_ALU64 | BPF_XOR | BPF_X, 6, 9, 0, 0),
        INSN(BPF_ALU64 | BPF_SUB | BPF_K, 8, 0, 0, 1),
        INSN(BPF_JMP | BPF_JNE | BPF_K, 8, 0, -7, 0),
        INSN(BPF_ALU64 | BPF_MOV | BPF_X, 0, 6, 0, 0),
        INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    };
    union bpf_attr attr = {.prog_type = BPF_PROG_TYPE_SOCKET_FILTER, .insns = (uint64_t)program, .insn_cnt = sizeof program / sizeof *program, .license = (uint64_t)"GPL"};
    int fd = bpf(BPF_PROG_LOAD, &attr);
    if (fd < 0) fail("BPF_PROG_LOAD", thread, round);
    struct bpf_prog_info info = {0};
    union bpf_attr about = {.info = {.bpf_fd = fd, .info_len = sizeof info, .info = (uint64_t)&info}};
    if (bpf(BPF_OBJ_GET_INFO_BY_FD, &about) || info.jited_prog_len == 0) fail("the kernel's compiler", thread, round);
    uint64_t want = seed;
    for (int i = 0; i < PASSES; i++) want = want * factor + (uint64_t)(int64_t)addend, want ^= want >> 29;
    char data[64] = {0};
    union bpf_attr run = {.test = {.prog_fd = fd, .data_size_in = sizeof data, .data_in = (uint64_t)data, .repeat = 20}};
    if (bpf(BPF_PROG_TEST_RUN, &run)) fail("BPF_PROG_TEST_RUN", thread, round);
    if (run.test.retval != (uint32_t)want) {
        printf("living: an extended program computes %#x, not %#x\n", run.test.retval, (uint32_t)want);
        fail("BPF", thread, round);
    }
    close(fd);
}

// A classic filter at a socket: it lets pass what begins with the constant of this round.
static void classic(long thread, long round) {
    uint32_t magic = (uint32_t)(round * 64 + thread) * 2246822519u | 1;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0), BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 0x5a5a5a5a),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, magic ^ 0x5a5a5a5a, 0, 1), BPF_STMT(BPF_RET | BPF_K, ~0u), BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair)) fail("socketpair", thread, round);
    if (setsockopt(pair[1], SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof filter)) fail("SO_ATTACH_FILTER", thread, round);
    for (uint32_t i = 0; i < 6; i++) {
        uint32_t packet[4] = {__builtin_bswap32(i & 1 ? magic ^ 1u << (i + round % 20) : magic), i};
        if (send(pair[0], packet, sizeof packet, 0) != sizeof packet) fail("send", thread, round);
    }
    for (uint32_t i = 0; i < 6; i += 2) {
        uint32_t packet[4];
        if (recv(pair[1], packet, sizeof packet, MSG_DONTWAIT) != sizeof packet || packet[1] != i) fail("a packet that passes", thread, round);
    }
    uint32_t none[4];
    if (recv(pair[1], none, sizeof none, MSG_DONTWAIT) >= 0) fail("a packet that does not pass", thread, round);
    close(pair[0]), close(pair[1]);
}

static void *programs(void *thread) {
    for (long i = 0; i < rounds; i++) extended((long)thread, i), classic((long)thread, i);
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4) return 2;
    void *(*work)(void *) = strcmp(argv[1], "bpf") ? calls : programs;
    rounds = atol(argv[2]);
    long threads = atol(argv[3]);
    pthread_t all[64];
    for (long i = 0; i < threads && i < 64; i++)
        if (pthread_create(&all[i], 0, work, (void *)i)) fail("pthread_create", i, 0);
    for (long i = 0; i < threads && i < 64; i++) pthread_join(all[i], 0);
    puts("living: done");
}

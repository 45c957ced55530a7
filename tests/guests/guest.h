// What every bare-metal guest uses: console, checks, exceptions, PSCI, GICv3, page tables.
#pragma once
#include <stdint.h>
typedef uint64_t u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

#define RAM_BASE 0x40000000ul
#define UART 0x09000000ul
#define GICD 0x08000000ul
#define GICR 0x080a0000ul
#define GICR_STRIDE 0x20000ul

#define read_sysreg(r) ({ u64 v_; asm volatile("mrs %0, " #r : "=r"(v_)); v_; })
#define write_sysreg(v, r) asm volatile("msr " #r ", %0" : : "r"((u64)(v)) : "memory")
#define isb() asm volatile("isb" ::: "memory")
#define dsb() asm volatile("dsb sy" ::: "memory")
#define wfi() asm volatile("wfi" ::: "memory")
#define mmio32(a) (*(volatile u32 *)(a))
#define mmio64(a) (*(volatile u64 *)(a))
#define mmio8(a) (*(volatile u8 *)(a))

extern u64 boot_registers[8];
extern char vectors[], secondary_start[], __image_end[];

// Console and verdicts. A guest ends with one line `RESULT passed=N failed=M`.
void put(char c);
void print(const char *s);
void print_hex(u64 v);
void print_dec(u64 v);
void check_at(int ok, const char *what, const char *file, int line);
void check_eq_at(u64 got, u64 want, const char *what, const char *file, int line);
#define check(cond, what) check_at(!!(cond), what, __FILE__, __LINE__)
#define check_eq(got, want, what) check_eq_at((u64)(got), (u64)(want), what, __FILE__, __LINE__)
u64 failures_so_far(void);
// A field of an identification register; a feature that is not there is said, as the checks of it are left out.
#define id_field(r, shift) (read_sysreg(r) >> (shift) & 15)
int has(u64 field, const char *feature);
void finish(void) __attribute__((noreturn));

// Exceptions. The handler runs with the frame; the default one records the exception and skips the instruction.
struct frame {
    u64 x[31], elr, spsr, esr, far, pad;
};
struct seen {
    u64 count, vector, esr, far, elr, spsr;
};
extern volatile struct seen seen;
typedef void (*handler)(u64 vector, struct frame *f);
extern handler on_sync, on_irq, on_fiq, on_serror;
void skip_instruction(u64 vector, struct frame *f);
#define EC(esr) (((esr) >> 26) & 0x3f)
#define expect_exception(ec, what, ...)                                                                               \
    do {                                                                                                               \
        seen.count = 0;                                                                                                \
        __VA_ARGS__;                                                                                                   \
        check_eq(seen.count, 1, what ": taken once");                                                                  \
        check_eq(EC(seen.esr), ec, what ": EC");                                                                       \
    } while (0)
#define expect_none(what, ...)                                                                                         \
    do {                                                                                                               \
        seen.count = 0;                                                                                                \
        __VA_ARGS__;                                                                                                   \
        check_eq(seen.count, 0, what ": no exception");                                                                \
    } while (0)
u64 enter_el0(u64 pc, u64 sp, u64 arg, u64 spsr);
void leave_el0(u64 result) __attribute__((noreturn));

// PSCI and processors.
u64 hvc(u64 function, u64 a, u64 b, u64 c);
void power_off(void) __attribute__((noreturn));
#define PSCI_VERSION 0x84000000
#define PSCI_CPU_SUSPEND 0xc4000001
#define PSCI_CPU_OFF 0x84000002
#define PSCI_CPU_ON 0xc4000003
#define PSCI_AFFINITY_INFO 0xc4000004
#define PSCI_SYSTEM_OFF 0x84000008
#define PSCI_SYSTEM_RESET 0x84000009
#define PSCI_FEATURES 0x8400000a
void secondary_main(u64 cpu);
u64 start_cpu(u64 cpu); // its PSCI status
u64 mpidr_of(u64 cpu);

// GICv3, security disabled: everything in group 1.
void gic_init(void);     // distributor, once
void gic_init_cpu(u64 cpu);
void gic_enable(u64 cpu, u32 intid, u8 priority, int enabled); // SGI and PPI of `cpu`, or SPI
#define ICC_IAR1 S3_0_C12_C12_0
#define ICC_EOIR1 S3_0_C12_C12_1
#define ICC_HPPIR1 S3_0_C12_C12_2
#define ICC_BPR1 S3_0_C12_C12_3
#define ICC_CTLR S3_0_C12_C12_4
#define ICC_SRE S3_0_C12_C12_5
#define ICC_IGRPEN0 S3_0_C12_C12_6
#define ICC_IGRPEN1 S3_0_C12_C12_7
#define ICC_DIR S3_0_C12_C11_1
#define ICC_RPR S3_0_C12_C11_3
#define ICC_SGI1R S3_0_C12_C11_5
#define ICC_IAR0 S3_0_C12_C8_0
#define ICC_EOIR0 S3_0_C12_C8_1
#define ICC_HPPIR0 S3_0_C12_C8_2
#define ICC_BPR0 S3_0_C12_C8_3
#define ICC_PMR S3_0_C4_C6_0
#define read_icc(r) read_icc_(r)
#define read_icc_(r) read_sysreg(r)
#define write_icc(v, r) write_icc_(v, r)
#define write_icc_(v, r) write_sysreg(v, r)
#define irq_on() asm volatile("msr daifclr, #2" ::: "memory")
#define irq_off() asm volatile("msr daifset, #2" ::: "memory")
u64 cpu_index(void);
u64 counter(void);
void spin_ms(u64 ms);
// What was written to a device has had its effect on interrupts by then.
void settle(void);

// Page tables, 4K granule, 39-bit addresses: identity map of the low 4 GiB, RAM normal, the rest device.
void mmu_on(void);
void mmu_map(u64 va, u64 pa, u64 attributes); // one 4 KiB page in the test window at TEST_VA
void mmu_unmap(u64 va);
#define TEST_VA 0x7000000000ul
#define PTE_VALID 3ul
#define PTE_NORMAL (0ul << 2)
#define PTE_DEVICE (1ul << 2)
#define PTE_USER (1ul << 6)
#define PTE_RO (1ul << 7)
#define PTE_SH (3ul << 8)
#define PTE_AF (1ul << 10)
#define PTE_NG (1ul << 11)
#define PTE_DBM (1ul << 51)
#define PTE_PXN (1ul << 53)
#define PTE_UXN (1ul << 54)
extern u64 *test_ptes; // the level 3 table behind TEST_VA

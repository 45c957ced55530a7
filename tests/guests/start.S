// Entry, exception vectors and the few helpers that C cannot express.
    .section .text.start, "ax"
    .globl _start
_start:
    adrp x9, boot_registers
    add  x9, x9, :lo12:boot_registers
    adrp x10, __bss_start
    add  x10, x10, :lo12:__bss_start
    adrp x11, __bss_end
    add  x11, x11, :lo12:__bss_end
1:  cmp  x10, x11
    b.hs 2f
    stp  xzr, xzr, [x10], #16
    b    1b
2:  stp  x0, x1, [x9]
    stp  x2, x3, [x9, #16]
    mrs  x0, CurrentEL
    mrs  x1, daif
    stp  x0, x1, [x9, #32]
    mrs  x0, sctlr_el1
    mrs  x1, SPSel
    stp  x0, x1, [x9, #48]
    mov  x0, #0
    b    common_start

    .globl secondary_start
secondary_start:                    // x0 = context id given to CPU_ON = index of this CPU
    mov  x20, x0
    b    1f
common_start:
    mov  x20, #0
1:  adrp x1, __stacks
    add  x1, x1, :lo12:__stacks
    add  x2, x20, #1
    add  x1, x1, x2, lsl #14
    msr  SPSel, #1
    mov  sp, x1
    adrp x1, vectors
    add  x1, x1, :lo12:vectors
    msr  vbar_el1, x1
    mov  x1, #(3 << 20)             // FP and AdvSIMD are not trapped
    msr  cpacr_el1, x1
    isb
    mov  x0, x20
    cbnz x20, 2f
    bl   main
    bl   power_off
2:  bl   secondary_main
3:  wfi
    b    3b

    .macro vector index
    .balign 128
    sub  sp, sp, #288
    stp  x0, x1, [sp]
    mov  x0, #\index
    b    save_frame
    .endm

    .text
    .balign 2048
    .globl vectors
vectors:
    .set i, 0
    .rept 16
    vector i
    .set i, i + 1
    .endr

save_frame:
    stp  x2, x3, [sp, #16]
    stp  x4, x5, [sp, #32]
    stp  x6, x7, [sp, #48]
    stp  x8, x9, [sp, #64]
    stp  x10, x11, [sp, #80]
    stp  x12, x13, [sp, #96]
    stp  x14, x15, [sp, #112]
    stp  x16, x17, [sp, #128]
    stp  x18, x19, [sp, #144]
    stp  x20, x21, [sp, #160]
    stp  x22, x23, [sp, #176]
    stp  x24, x25, [sp, #192]
    stp  x26, x27, [sp, #208]
    stp  x28, x29, [sp, #224]
    mrs  x1, elr_el1
    stp  x30, x1, [sp, #240]
    mrs  x1, spsr_el1
    mrs  x2, esr_el1
    stp  x1, x2, [sp, #256]
    mrs  x1, far_el1
    str  x1, [sp, #272]
    mov  x1, sp
    bl   on_exception               // (vector, frame)
    ldp  x30, x1, [sp, #240]
    msr  elr_el1, x1
    ldr  x1, [sp, #256]
    msr  spsr_el1, x1
    ldp  x2, x3, [sp, #16]
    ldp  x4, x5, [sp, #32]
    ldp  x6, x7, [sp, #48]
    ldp  x8, x9, [sp, #64]
    ldp  x10, x11, [sp, #80]
    ldp  x12, x13, [sp, #96]
    ldp  x14, x15, [sp, #112]
    ldp  x16, x17, [sp, #128]
    ldp  x18, x19, [sp, #144]
    ldp  x20, x21, [sp, #160]
    ldp  x22, x23, [sp, #176]
    ldp  x24, x25, [sp, #192]
    ldp  x26, x27, [sp, #208]
    ldp  x28, x29, [sp, #224]
    ldp  x0, x1, [sp]
    add  sp, sp, #288
    eret

// u64 enter_el0(u64 pc, u64 sp, u64 arg, u64 spsr): runs at EL0 until leave_el0 is called by an exception handler.
    .globl enter_el0
enter_el0:
    stp  x29, x30, [sp, #-112]!
    stp  x19, x20, [sp, #16]
    stp  x21, x22, [sp, #32]
    stp  x23, x24, [sp, #48]
    stp  x25, x26, [sp, #64]
    stp  x27, x28, [sp, #80]
    adrp x9, el0_return_sp
    mov  x10, sp
    str  x10, [x9, :lo12:el0_return_sp]
    msr  elr_el1, x0
    msr  sp_el0, x1
    msr  spsr_el1, x3
    mov  x0, x2
    eret
// Called by the C handler of an exception from EL0: back to the caller of enter_el0 with x0.
    .globl leave_el0
leave_el0:
    adrp x9, el0_return_sp
    ldr  x10, [x9, :lo12:el0_return_sp]
    mov  sp, x10
    ldp  x19, x20, [sp, #16]
    ldp  x21, x22, [sp, #32]
    ldp  x23, x24, [sp, #48]
    ldp  x25, x26, [sp, #64]
    ldp  x27, x28, [sp, #80]
    ldp  x29, x30, [sp], #112
    ret

    .bss
    .balign 16
    .globl boot_registers
boot_registers: .skip 64
el0_return_sp: .skip 8

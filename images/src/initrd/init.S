// The /init of a made-up initrd: loads modules, mounts the root disk, becomes the init of that root.
//
// Position independent, no stack, no relocation: `init.bin` is its bytes, kept in the tree so that making an initrd
// needs no assembler (tests/tests/initrd.rs compares them). What to do stands behind the code (init.rs writes it):
//
//   u64     flags of the root's mount(2)
//   strings root device, file system, mount options
//   strings paths of modules; an empty one ends them
//   strings programs to try as init; an empty one ends them
//
// x19 next string   x20 mount flags   x21 device   x22 file system   x23 options   x24 attempts left
// x25 file descriptor   x26 error number   x27 return address of `skip`'s callers   x28 initial stack pointer

        .set    SYS_UNLINKAT, 35
        .set    SYS_MOUNT, 40
        .set    SYS_CHDIR, 49
        .set    SYS_CHROOT, 51
        .set    SYS_OPENAT, 56
        .set    SYS_CLOSE, 57
        .set    SYS_WRITE, 64
        .set    SYS_EXIT, 93
        .set    SYS_NANOSLEEP, 101
        .set    SYS_EXECVE, 221
        .set    SYS_FINIT_MODULE, 273
        .set    AT_FDCWD, -100
        .set    O_CLOEXEC, 0x80000
        .set    MS_MOVE, 0x2000
        .set    ENOENT, 2
        .set    ENXIO, 6
        .set    EEXIST, 17
        .set    ATTEMPTS, 1000          // of 10 ms each

        .text
        .global _start
_start:
        mov     x28, sp
        adr     x19, config
        ldr     x20, [x19], #8
        mov     x21, x19
        bl      skip
        mov     x22, x19
        bl      skip
        mov     x23, x19
        bl      skip

        adr     x0, devtmpfs
        adr     x1, dev
        mov     x2, x0
        mov     x3, #0
        mov     x4, #0
        mov     x8, #SYS_MOUNT
        svc     #0                      // a kernel that has mounted it already says EBUSY

modules:
        ldrb    w0, [x19]
        cbz     w0, modules_done
        mov     x0, #AT_FDCWD
        mov     x1, x19
        mov     x2, #O_CLOEXEC
        mov     x3, #0
        mov     x8, #SYS_OPENAT
        svc     #0
        mov     x26, x0
        tbnz    x0, #63, module_failed
        mov     x25, x0
        adr     x1, empty
        mov     x2, #0
        mov     x8, #SYS_FINIT_MODULE
        svc     #0
        mov     x26, x0
        mov     x0, x25
        mov     x8, #SYS_CLOSE
        svc     #0
        mov     x0, #AT_FDCWD           // its memory is of more use
        mov     x1, x19
        mov     x2, #0
        mov     x8, #SYS_UNLINKAT
        svc     #0
        cbz     x26, next_module
        cmn     x26, #EEXIST
        b.eq    next_module
module_failed:
        adr     x1, cannot_load
        bl      say
        mov     x1, x19
        bl      say
        bl      say_error
next_module:
        bl      skip
        b       modules

modules_done:
        add     x19, x19, #1
        mov     x24, #ATTEMPTS
mount_root:
        mov     x0, x21
        adr     x1, root
        mov     x2, x22
        mov     x3, x20
        mov     x4, x23
        mov     x8, #SYS_MOUNT
        svc     #0
        mov     x26, x0
        cbz     x0, mounted
        cmn     x0, #ENOENT             // the disk is not found yet
        ccmn    x0, #ENXIO, #4, ne
        b.ne    mount_failed
        subs    x24, x24, #1
        b.eq    mount_failed
        adr     x0, ten_milliseconds
        mov     x1, #0
        mov     x8, #SYS_NANOSLEEP
        svc     #0
        b       mount_root
mount_failed:
        adr     x1, cannot_mount
        bl      say
        mov     x1, x21
        bl      say
        adr     x1, as
        bl      say
        mov     x1, x22
        bl      say
        bl      say_error
        b       exit

mounted:
        adr     x0, dev
        adr     x1, root_dev
        mov     x2, #0
        mov     x3, #MS_MOVE
        mov     x4, #0
        mov     x8, #SYS_MOUNT
        svc     #0                      // a root without /dev has to do without
        mov     x0, #AT_FDCWD
        adr     x1, init
        mov     x2, #0
        mov     x8, #SYS_UNLINKAT
        svc     #0
        adr     x0, root
        mov     x8, #SYS_CHDIR
        svc     #0
        adr     x0, dot
        adr     x1, slash
        mov     x2, #0
        mov     x3, #MS_MOVE
        mov     x4, #0
        mov     x8, #SYS_MOUNT
        svc     #0
        adr     x0, dot
        mov     x8, #SYS_CHROOT
        svc     #0
        adr     x0, slash
        mov     x8, #SYS_CHDIR
        svc     #0

        // The kernel's words for init and its environment go on: only argv[0] changes.
        add     x22, x28, #8
        ldr     x0, [x28]
        add     x23, x22, x0, lsl #3
        add     x23, x23, #8
programs:
        ldrb    w0, [x19]
        cbz     w0, no_program
        str     x19, [x22]
        mov     x0, x19
        mov     x1, x22
        mov     x2, x23
        mov     x8, #SYS_EXECVE
        svc     #0
        mov     x26, x0
        bl      skip
        b       programs
no_program:
        adr     x1, no_init
        bl      say
        bl      say_error
exit:
        mov     x0, #1
        mov     x8, #SYS_EXIT
        svc     #0
        b       exit

// Moves x19 behind the string that it points to.
skip:
        ldrb    w9, [x19], #1
        cbnz    w9, skip
        ret

// Writes the string at x1 to the console.
say:
        mov     x2, #0
length:
        ldrb    w9, [x1, x2]
        cbz     w9, write
        add     x2, x2, #1
        b       length
write:
        mov     x0, #2
        mov     x8, #SYS_WRITE
        svc     #0
        ret

// Writes ": error N" for the result in x26, and ends the line.
say_error:
        mov     x27, x30
        adr     x1, error
        bl      say
        neg     x10, x26
        mov     x11, #1000              // error numbers have up to four digits
digits:
        udiv    x12, x10, x11
        msub    x10, x12, x11, x10
        adr     x1, numerals
        add     x1, x1, x12
        mov     x2, #1
        bl      write
        mov     x12, #10
        udiv    x11, x11, x12
        cbnz    x11, digits
        adr     x1, newline
        mov     x2, #1
        bl      write
        ret     x27

        .balign 8
ten_milliseconds:
        .quad   0, 10000000
devtmpfs:       .asciz  "devtmpfs"
dev:            .asciz  "/dev"
root:           .asciz  "/root"
root_dev:       .asciz  "/root/dev"
init:           .asciz  "/init"
slash:          .asciz  "/"
dot:            .asciz  "."
empty:          .asciz  ""
numerals:       .ascii  "0123456789"
newline:        .ascii  "\n"
error:          .asciz  ": error "
as:             .asciz  " as "
cannot_load:    .asciz  "vmm: initrd: cannot load "
cannot_mount:   .asciz  "vmm: initrd: cannot mount "
no_init:        .asciz  "vmm: initrd: no program on the root disk can be started as init"
        .balign 8
config:

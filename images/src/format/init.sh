#!/bin/sh
# The first process of an image that has none, and of every image that is booted as an initramfs: mounts what a system needs,
# then runs the image's own init or, where there is none, a login on the console. Words behind "--" on the kernel's command
# line are run instead.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# An initrd may have done some of it.
[ -e /proc/mounts ] || mount -t proc -o nosuid,nodev,noexec proc /proc
[ -e /sys/kernel ] || mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
[ -e /dev/pts/ptmx ] || mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
grep -q ' /dev/shm ' /proc/mounts || mount -t tmpfs -o nosuid,nodev shm /dev/shm
grep -q ' /run ' /proc/mounts || mount -t tmpfs -o nosuid,nodev,mode=0755 run /run
mkdir -p -m 1777 /run/lock

if [ $# -eq 0 ]; then
    for init in /sbin/init /lib/systemd/systemd; do
        [ -x "$init" ] && ! [ "$init" -ef "$0" ] && exec "$init"
    done
fi
# As the init of a disk: it may be written to, and grows if its disk has become larger.
if [ "$0" = /sbin/init ] && grep -q '^[^ ]* / ext4 ' /proc/mounts; then
    mount -o remount,rw /
    device=$(sed -n 's/^DEVNAME=//p' "/sys/dev/block/$(mountpoint -d /)/uevent")
    resize2fs "/dev/$device" >/dev/null 2>&1
fi

dmesg -n 4 2>/dev/null
[ -r /etc/hostname ] && cat /etc/hostname >/proc/sys/kernel/hostname
cd /root || cd /
export HOME=/root USER=root LOGNAME=root TERM="${TERM:-linux}"
if [ $# -gt 0 ]; then
    "$@"
    echo "exit status $?"
elif [ -x /sbin/agetty ] && [ -x /bin/login ]; then
    console=$(sed 's/.* //' /sys/class/tty/console/active)
    # Where root has no password, as in a new image, who holds the console is let in.
    grep -q '^root:[^*!:]' /etc/shadow || automatic="--autologin root"
    setsid agetty $automatic --noclear "$console" "$TERM"
else
    setsid /bin/sh -i </dev/console >/dev/console 2>&1
fi

# An image without an init has no poweroff either.
sync
echo o >/proc/sysrq-trigger
sleep 5

#!/bin/busybox sh
# The first process of the demo guest: a shell on the console, and power off when it ends.

/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
hostname vmm
# Messages of lesser weight than warnings would disturb the shell; dmesg has them.
dmesg -n 5

# Modules only where there is hardware for them: each costs time.
for node in /proc/device-tree/virtio_mmio@* /proc/device-tree/pcie@*; do
    [ -e "$node" ] || continue
    while read -r module; do
        insmod "/lib/modules/$module" 2>/dev/null
    done </lib/modules/order
    for device in /sys/bus/virtio/devices/*/device; do
        [ -e "$device" ] || continue
        order=/lib/modules/order.$(cat "$device")
        [ -e "$order" ] || continue
        while read -r module; do
            insmod "/lib/modules/$module" 2>/dev/null
        done <"$order"
    done
    break
done

ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    # Not waited for: there may be nobody who answers.
    udhcpc -i eth0 -s /usr/share/udhcpc/default.script -b -q -t 5 >/dev/null 2>&1 &
fi

export HOME=/root USER=root LOGNAME=root PATH=/sbin:/usr/sbin:/bin:/usr/bin PS1='\h:\w# '
cd /root || cd /
echo
echo "Linux $(uname -r) on $(uname -m), $(nproc) CPU(s), $(free -m | awk '/^Mem:/ { print $2 }') MiB: Debian's kernel, BusyBox' tools."
echo "'exit' powers the machine off."
echo
setsid cttyhack sh
poweroff -f

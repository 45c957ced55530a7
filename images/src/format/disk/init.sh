#!/bin/busybox sh
# The first process of the initrd on a disk that UEFI boots: loads drivers, mounts the root that root= names, starts its init.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
while read -r module; do
    insmod "/modules/$module" 2>/dev/null
done </modules/order

root=
mode=rw
init=
for word in $(cat /proc/cmdline); do
    case $word in
    root=*) root=${word#root=} ;;
    init=*) init=${word#init=} ;;
    ro | rw) mode=$word ;;
    --) break ;;
    esac
done

find_root() {
    case $root in
    UUID=* | LABEL=*) findfs "$root" 2>/dev/null ;;
    *) [ -b "$root" ] && echo "$root" ;;
    esac
}
tries=0
while device=$(find_root); [ -z "$device" ] && [ "$tries" -lt 100 ]; do
    sleep 0.1
    tries=$((tries + 1))
done
if [ -z "$device" ] || ! mount -t ext4 -o "$mode" "$device" /root; then
    echo "The root $root cannot be mounted; there is:"
    cat /proc/partitions
    exec sh
fi
mount --move /dev /root/dev
umount /proc
umount /sys
for program in $init /sbin/init /lib/systemd/systemd; do
    if chroot /root /usr/bin/test -x "$program"; then
        exec switch_root /root "$program" "$@"
    fi
done
# A system without an init: a login all the same.
cp /start /root/dev/start
exec switch_root /root /dev/start "$@"

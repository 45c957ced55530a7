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
wait_for_root() {
    tries=0
    while device=$(find_root); [ -z "$device" ] && [ "$tries" -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
}

# A number of the first argument's file: at this byte, of so many bytes, little-endian.
number() {
    dd if="$1" bs=1 skip="$2" count="$3" 2>/dev/null | od -A n -t "u$3" | tr -d ' '
}
# So many bytes of a number, and where they go in a file.
put() {
    value=$1 rest=$2
    while [ "$rest" -gt 0 ]; do
        printf "\\$(printf %03o $((value & 255)))"
        value=$((value >> 8)) rest=$((rest - 1))
    done | dd of="$3" bs=1 seek="$4" conv=notrunc 2>/dev/null
}
# The CRC-32 of a file, put into another: the trailer of gzip has it in the order of bytes that the table wants.
put_crc() {
    gzip -c "$1" | tail -c 8 | head -c 4 | dd of="$2" bs=1 seek="$3" conv=notrunc 2>/dev/null
}
# The header of the table: where it is, where the other one is, and where its entries are.
header() {
    put 0 4 /header 16
    put "$1" 8 /header 24
    put "$2" 8 /header 32
    put "$3" 8 /header 72
    put_crc /header /header.crc 0
    dd if=/header.crc of=/header bs=1 seek=16 conv=notrunc 2>/dev/null
    dd if=/header bs=512 conv=sync 2>/dev/null
}

# Where the disk became larger, the last partition gets the room: the table (UEFI 2.10, 5.3) as `vmm image` writes it, 128
# entries of 128 bytes behind the header. Any other one is left alone.
grow_partition() {
    name=${device##*/}
    index=$(cat "/sys/class/block/$name/partition" 2>/dev/null) || return
    disk=$(readlink -f "/sys/class/block/$name/..")
    disk=/dev/${disk##*/}
    sectors=$(blockdev --getsz "$disk")
    last=$((sectors - 1))
    [ "$(number "$disk" 544 8)" -lt "$last" ] || return
    [ "$(blockdev --getss "$disk")" = 512 ] && [ "$(dd if="$disk" bs=1 skip=512 count=8 2>/dev/null)" = "EFI PART" ] || return
    # The size of the header, where the entries are, how many there are, and the size of one.
    [ "$(number "$disk" 524 4) $(number "$disk" 584 8) $(number "$disk" 592 4) $(number "$disk" 596 4)" = "92 2 128 128" ] || return
    # The table is kept in files while it is changed; nothing may be behind the partition of the root.
    dd if="$disk" of=/header bs=1 skip=512 count=92 2>/dev/null
    dd if="$disk" of=/entries bs=512 skip=2 count=32 2>/dev/null
    [ "$(dd if=/entries bs=128 skip="$index" 2>/dev/null | tr -d '\0' | wc -c)" = 0 ] || return
    put $(((sectors - 33) / 2048 * 2048 - 1)) 8 /entries $((index * 128 - 88))
    put $((last - 33)) 8 /header 48
    put_crc /entries /header 88
    # The copy at the end first: as long as the first one is the old one, that one counts.
    header "$last" 1 $((last - 32)) >/second
    dd if=/entries of="$disk" bs=512 seek=$((last - 32)) conv=notrunc 2>/dev/null
    dd if=/second of="$disk" bs=512 seek="$last" conv=notrunc 2>/dev/null
    sync
    header 1 "$last" 2 >/first
    cat /first /entries | dd of="$disk" bs=16896 seek=512 oflag=seek_bytes iflag=fullblock conv=notrunc 2>/dev/null
    put $((last < 0xffffffff ? last : 0xffffffff)) 4 "$disk" 458
    sync
    blockdev --rereadpt "$disk"
    wait_for_root
}

# The file system, by the image's own tool, if it has one; systemd does it otherwise (/etc/fstab).
grow_file_system() {
    name=${device##*/}
    [ "$(number "$device" 1080 2)" = 61267 ] && [ "$(number "$device" 1048 4)" = 2 ] || return
    [ "$(number "$device" 1028 4)" -lt $(($(cat "/sys/class/block/$name/size") / 8)) ] || return
    mount --bind /dev /root/dev
    mount -t proc proc /root/proc
    PATH=/usr/sbin:/sbin:/usr/bin:/bin chroot /root resize2fs "$device" >/dev/null 2>&1
    umount /root/proc /root/dev
}

wait_for_root
[ -n "$device" ] && grow_partition
if [ -z "$device" ] || ! mount -t ext4 -o "$mode" "$device" /root; then
    echo "The root $root cannot be mounted; there is:"
    cat /proc/partitions
    exec sh
fi
[ "$mode" = rw ] && grow_file_system
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

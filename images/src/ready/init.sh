#!/.vmm/busybox sh
# The first process of a guest by name: loads the drivers of this machine's devices, then runs the image's first process.

b=/.vmm/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
for node in /proc/device-tree/virtio_mmio@* /proc/device-tree/pcie@*; do
    [ -e "$node" ] || continue
    while read -r module; do
        $b insmod "/.vmm/modules/$module" 2>/dev/null
    done </.vmm/modules/order
    break
done
$b ip link set lo up
if [ -e /sys/class/net/eth0 ]; then
    $b ip link set eth0 up
    # Not waited for: there may be nobody who answers.
    $b udhcpc -i eth0 -s /.vmm/udhcpc -b -q -t 5 >/dev/null 2>&1 &
fi
$b umount /sys
$b umount /proc
exec /.vmm/init "$@"

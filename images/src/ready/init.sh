#!/.vmm/busybox sh
# The first process of a guest by name: brings its network up, then does what any image does that is booted without an init.

export BUSYBOX=/.vmm/busybox
$BUSYBOX ip link set lo up
if $BUSYBOX ip link set eth0 up 2>/dev/null; then
    # Not waited for: there may be nobody who answers.
    $BUSYBOX udhcpc -i eth0 -s /.vmm/udhcpc -b -q -t 5 >/dev/null 2>&1 &
fi
exec /.vmm/start "$@"

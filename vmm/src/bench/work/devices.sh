#!/usr/bin/bash
# The first process of the guests in which devices are measured. The kernel command line says what: bench=CPUS,NAME,... and
# for a network port=N among the names, where the peer listens. Prints for each NAME its rate in units a second, and how many
# units it were. (Not by BusyBox, whose shell takes its own dd and mke2fs before all others.)
export PATH=/usr/bin:/usr/sbin:/bench/bin LC_ALL=C
/bin/busybox mkdir -p /bench/bin /mnt
/bin/busybox --install -s /bench/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /tmp
while read -r module; do insmod "/bench/modules/$module"; done </bench/modules/order

fail() {
    echo "VMM-BENCH $1 failed: $(tail -n 3 /tmp/err | tr '\n' ' ')"
    poweroff -f
}

# Prints the rate, if there is one.
rated() {
    [ -s /tmp/rate ] || { cat /tmp/out >>/tmp/err; fail "$1"; }
    cat /tmp/rate
}

# The unit is a MiB; everything is on the disk when the time is taken.
run_dd() {
    local name=$1 seconds
    shift
    dd bs=1M "$@" 2>/tmp/err || fail "$name"
    echo "VMM-BENCH $name ends"
    seconds=$(sed -n 's/.* copied, \([0-9.e-]*\) s.*/\1/p' /tmp/err)
    echo "VMM-BENCH $name rate $(awk "BEGIN { print 1000 / $seconds, 1000 }")"
}

file_system() {
    [ -e /mnt/lost+found ] && return
    mke2fs -q -F -t ext4 -E lazy_itable_init=0,lazy_journal_init=0 /dev/vda >/tmp/err 2>&1 || fail mke2fs
    mount /dev/vda /mnt || fail mount
    sync
}

# The unit is an operation.
run_fio() {
    local name=$1 rw=$2 depth=$3
    fio --name=job --filename=/dev/vdb --direct=1 --ioengine=libaio --bs=4k --rw="$rw" --iodepth="$depth" --randrepeat=1 \
        --time_based --runtime=5 --ramp_time=1 --minimal --terse-version=3 >/tmp/out 2>/tmp/err || fail "$name"
    echo "VMM-BENCH $name ends"
    # KiB and operations a second: fields 6 and 8 of reads, 47 and 49 of writes.
    awk -F';' -v name="$name" -v rw="$rw" '/^3;/ {
        if (rw == "randread") { kib = $6; rate = $8 } else { kib = $47; rate = $49 }
        print "VMM-BENCH", name, "rate", rate, kib / 4
    }' /tmp/out >/tmp/rate
    rated "$name"
}

card() {
    ip link set lo up
    ip addr add "$1" dev eth0 || fail card
    ip link set eth0 up
}

# The unit is 10^6 bits.
run_iperf() {
    local name=$1 peer=10.0.2.2
    shift
    case $name in tap-*) peer=192.168.77.1 ;; esac
    iperf3 -c $peer -p "$port" -t 5 -J "$@" >/tmp/out 2>/tmp/err || { grep error /tmp/out >>/tmp/err; fail "$name"; }
    echo "VMM-BENCH $name ends"
    awk -F'[:,]' -v name="$name" '/"sum_received"/ { inside = 1 }
        inside && /"bytes"/ { work = $2 * 8 / 1e6 }
        inside && /"bits_per_second"/ { print "VMM-BENCH", name, "rate", $2 / 1e6, work; exit }' /tmp/out >/tmp/rate
    rated "$name"
}

measure() {
    case $1 in dd-*) file_system ;; esac
    echo "VMM-BENCH $1 begins"
    case $1 in
        dd-write) run_dd "$1" if=/dev/zero of=/mnt/file count=1000 conv=fsync ;;
        dd-read) run_dd "$1" if=/mnt/file of=/dev/null ;;
        randread-1) run_fio "$1" randread 1 ;;
        randwrite-1) run_fio "$1" randwrite 1 ;;
        randread-32) run_fio "$1" randread 32 ;;
        randwrite-32) run_fio "$1" randwrite 32 ;;
        *-out) run_iperf "$1" ;;
        *-in) run_iperf "$1" -R ;;
        *-out-4) run_iperf "$1" -P 4 ;;
        *-in-4) run_iperf "$1" -R -P 4 ;;
    esac
    echo 3 >/proc/sys/vm/drop_caches
}

for word in $(cat /proc/cmdline); do
    case $word in bench=*) arguments=${word#bench=} ;; esac
done
case $arguments in
    *user-*) card 10.0.2.15/24 ;;
    *tap-*) card 192.168.77.2/24 ;;
esac
for name in $(echo "${arguments#*,}" | tr ',' ' '); do
    case $name in
        port=*) port=${name#port=} ;;
        *) measure "$name" ;;
    esac
done
umount /mnt 2>/dev/null
echo "VMM-BENCH end"
poweroff -f

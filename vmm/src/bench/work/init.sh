#!/bin/busybox sh
# The first process of the guest: runs the benchmark and powers off. The kernel command line says what: bench=COPIES[:SECONDS],NAME,...
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t tmpfs tmp /tmp
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in bench=*) arguments=${word#bench=} ;; esac
done
IFS=,
/usr/bin/bash /bench/run.sh $arguments </dev/null
/bin/busybox poweroff -f

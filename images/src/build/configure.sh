#!/bin/busybox sh
# The first process of the guest in which an image is configured. The image is /root, everything else is ours.
# The console tells the host what happens; the disk with serial "list" takes all names, the one with serial "data"
# the files that changed.

/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
dmesg -n 1
# The root may take most of the memory, not half of it: the archive that it was made of is gone by now.
mount -o remount,size=90%,nr_inodes=0 /
. /plan/settings

# 0 is kept for success: what does not get here has failed.
finish() {
    echo "@status $1"
    sync
    poweroff -f
}

while read -r module; do
    insmod "/lib/modules/$module" || finish "cannot load $module"
done </lib/modules/order

disk() {
    for block in /sys/block/vd*; do
        [ "$(cat "$block/serial" 2>/dev/null)" = "$1" ] && echo "/dev/${block##*/}"
    done
}
list=$(disk list)
data=$(disk data)
[ -b "$list" ] && [ -b "$data" ] || finish "the disks are missing"

date -u -s "@$epoch" >/dev/null
hostname localhost
mount -t proc proc /root/proc
mount -t sysfs sysfs /root/sys
mount --bind /dev /root/dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
ip link set lo up 2>/dev/null

# Inside the image: the environment of mmdebstrap, and fixed seeds. BusyBox would run tools of its own: `env` is the
# image's.
chrooted() {
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb \
        DEBIAN_FRONTEND=noninteractive DEBCONF_NONINTERACTIVE_SEEN=true LC_ALL=C.UTF-8 LANGUAGE=C.UTF-8 LANG=C.UTF-8 \
        SOURCE_DATE_EPOCH="$epoch" PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0 PYTHONHASHSEED=0 TMPDIR=/tmp \
        /bin/busybox chroot /root /usr/bin/env "$@"
}
inside() {
    chrooted "$@" </dev/null 2>&1
}
run() {
    "$@" || finish "exit status $? of: $*"
}
dpkg="dpkg --force-unsafe-io"

# As dpkg runs a preinst, but the package's files are there already: it must leave them alone.
preinst() {
    diversions=/root/var/lib/dpkg/diversions
    for stem; do
        diverted=$(cat $diversions 2>/dev/null)
        package=${stem%%:*}
        info=/var/lib/dpkg/info/$stem
        run inside DPKG_MAINTSCRIPT_NAME=preinst DPKG_MAINTSCRIPT_PACKAGE="$package" DPKG_MAINTSCRIPT_ARCH=arm64 \
            DEBCONF_PACKAGE="$package" DPKG_MAINTSCRIPT_PACKAGE_REFCOUNT=1 DPKG_ROOT= DPKG_ADMINDIR=/var/lib/dpkg "$info.preinst" install
        [ "$diverted" = "$(cat $diversions 2>/dev/null)" ] || finish "preinst $package"
        while read -r path; do
            [ -e "/root$path" ] || [ -L "/root$path" ] || finish "preinst $package"
        done <"/root$info.list"
    done
}

echo "@step unpack"
preinst $base_preinsts
if [ -n "$base_debs" ]; then
    run inside $dpkg --no-triggers --force-depends --unpack $base_debs
fi
if [ -n "$base" ]; then
    echo "@step configure the base system"
    rest=
    for package in $base; do
        case $package in base-passwd | base-files) ;; *) rest="$rest $package" ;; esac
    done
    # The scripts of all others count on users and directories.
    for package in base-passwd base-files; do
        case " $base " in *" $package "*) run inside $dpkg --no-triggers --force-depends --configure "$package" ;; esac
    done
    run inside $dpkg --no-triggers --configure $rest
fi
preinst $other_preinsts
if [ -n "$other_debs" ]; then
    run inside $dpkg --no-triggers --force-depends --unpack $other_debs
fi
if [ -n "$configure" ]; then
    echo "@step configure"
    run inside $dpkg --configure --pending
fi
if [ -e /root/.customize ]; then
    echo "@step customize"
    run inside /bin/sh /.customize/run
fi

echo "@step collect"
rm -rf /root/.debs /root/.customize /root/usr/sbin/policy-rc.d
# Nothing of the image may still run.
for process in /proc/[0-9]*; do
    id=${process#/proc/}
    [ "$id" -gt 1 ] && [ "$(readlink "$process/root")" = /root ] && kill -9 "$id"
done
umount -l /root/dev /root/proc /root/sys

# Every name, and the contents of what changed: all that was changed since the clock was set, whatever dates it bears.
names() {
    chrooted find . -xdev -printf '%y\0%m\0%U\0%G\0%i\0%T@\0%l\0%P\0' && printf 'end\0'
}
changed() {
    chrooted find . -xdev -mindepth 1 ! -type s -newerct "@$epoch" ! -newerct "@$((epoch + window))" -print0
}
pack() {
    chrooted tar --create --format=posix --numeric-owner --no-recursion --null --xattrs '--xattrs-include=*' \
        --files-from=- --file=-
}
names >"$list" || finish "the names cannot be listed"
changed >/changed || finish "the changed files cannot be listed"
pack </changed >"$data" || finish "the changed files cannot be packed"
sync
finish 0

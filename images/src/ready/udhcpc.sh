#!/.vmm/busybox sh
# udhcpc calls this when it has, renews or loses an address.
case "$1" in
deconfig)
    /.vmm/busybox ip -4 address flush dev "$interface"
    /.vmm/busybox ip link set "$interface" up
    ;;
bound | renew)
    /.vmm/busybox ip -4 address flush dev "$interface"
    /.vmm/busybox ip address add "$ip/${mask:-24}" dev "$interface"
    for gateway in $router; do
        /.vmm/busybox ip route replace default via "$gateway" dev "$interface"
    done
    : >/etc/resolv.conf
    for server in $dns; do
        echo "nameserver $server" >>/etc/resolv.conf
    done
    ;;
esac

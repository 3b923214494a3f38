# SPDX-License-Identifier: Apache-2.0
# dom0 as a host that others reach by ssh, until one of them says that it is enough (xen_remote_test.py).
insmod "$modules/e1000.ko" || die "dom0 has no network card"
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
mkfifo enough
chmod 700 /root
dropbear -F -E -s -R > dropbear.log 2>&1 &
server=$!
echo "the ssh server is process $server"
read -r answer < enough
kill $server
wait $server
sed 's/^/# /' dropbear.log
same "the client is content" yes "$answer"
same "no guest was left behind" 2 "$(xl list | wc -l)"
same "no module was left behind" "" "$(lsmod | grep -E 'argo|vsock')"
same "no file was left behind" "" "$(ls -d /tmp/argosy.* /data 2> /dev/null)"

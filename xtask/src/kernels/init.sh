#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The first process of a guest. Runs the programs of /programs/list, reports how each ended on
# the second serial line, where the kernel's messages do not mix in, and ends the machine.

export PATH=/usr/sbin:/usr/bin:/applets HOME=/root RUST_BACKTRACE=1 SIXFOUR_BIN=/usr/sbin/sixfour

# busybox finds itself by /proc. It comes last on PATH: it stands in only for tools that the
# image does not have.
busybox mount -t proc proc /proc
busybox mkdir /applets
busybox --install -s /applets

mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
# The root is in memory already, /tmp with it.
mount -t tmpfs tmpfs /run
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
# The one module that nothing asks for by itself.
modprobe br_netfilter

# report NAME CODE START: how something ended, when it started and now, in seconds since the boot
report() {
	read -r end _ </proc/uptime
	echo "$1 $2 $3 $end" >/dev/ttyS1
}

report boot 0 0
cd "$(cat /programs/folder)" || exit

while read -r name limit command; do
	echo "== $name"
	read -r start _ </proc/uptime
	# Without quotes: the arguments are words.
	timeout -k 10 "$limit" $command </dev/null
	report "$name" $? "$start"
done </programs/list

# The last word. Who has booted the machine ends it then: what is on its way out of the serial line would be lost
# if it ended by itself. If nobody does, qemu is told to end instead of starting anew.
report end 0 0
sleep 60
busybox reboot -f

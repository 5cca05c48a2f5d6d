#!/bin/bash
# Run one host until it powers off. Started by hosts.py in a mount namespace of its own, so that
# everything mounted here is gone with the last process of the host, whatever ends it.
#   run-host.sh CGROUP BASE STATE_FOLDER NSPAWN_ARGUMENT...
set -eu
cgroup=$1 base=$2 dir=$3
shift 3

# First of all: from here on, killing the cgroup ends us and everything we start.
echo $$ > "$cgroup/cgroup.procs"

mount -t overlay ppctl-host -o "lowerdir=$base,upperdir=$dir/upper,workdir=$dir/work" "$dir/root"

# systemd wants one cgroup2 tree; machines with the older trees show it elsewhere or not at all.
own=$(sed -n 's/^0:://p' /proc/self/cgroup)
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
cgroup=/sys/fs/cgroup$own

# nspawn keeps its own files there, and insists on a tmpfs.
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn

reboot=133 # how nspawn says that the host asked for one
while :; do
  code=0
  # Not registered, no unit of its own: there may be no systemd on this machine to ask for them.
  systemd-nspawn --quiet --boot --directory="$dir/root" --register=no --keep-unit \
    --link-journal=no --resolv-conf=off --timezone=off --console=read-only "$@" || code=$?
  [ "$code" = "$reboot" ] || exit "$code"
  find "$cgroup" -mindepth 1 -depth -type d -exec rmdir {} +
done

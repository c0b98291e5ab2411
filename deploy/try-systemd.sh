#!/bin/bash
# Tries the unit under a real systemd: start, reload, a reload that is refused,
# upgrades, a killed master, one that hangs, stop. As root:
#
#   make build && deploy/try-systemd.sh bin/reuseportd
#
# systemd runs as PID 1 of its own namespaces on an overlay of this machine's
# root: nothing outside of them is touched. It needs systemd, overlayfs, cgroup2
# and curl; where one is missing it says so and fails.
set -euo pipefail

case ${1:-} in
	outside|inside|driver) part=$1 ;;
	*) part=start ;;
esac

start() {
	local binary work cg status
	binary=$(realpath "${1:?usage: try-systemd.sh BINARY}")
	here=$(dirname "$(realpath "$0")")
	work=$(mktemp -d)
	cg=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
	[ -n "$cg" ] || { echo "no cgroup2 is mounted" >&2; exit 1; }
	cg=$cg/try-systemd-$$
	mkdir "$cg"
	trap 'find "$cg" -depth -type d -exec rmdir {} + || true; rm -rf "$work"' EXIT
	status=0
	timeout -k 5 120 "$0" outside "$binary" "$here" "$work" "$cg" || status=$?
	[ -e "$work/log" ] && cat "$work/log"
	[ -e "$work/passed" ] && exit 0
	echo "failed (status $status)" >&2
	[ -e "$work/systemd.log" ] && tail -20 "$work/systemd.log" >&2
	exit 1
}

outside() {
	echo $$ > "$4/cgroup.procs"
	exec unshare --cgroup --pid --mount --net --uts --ipc --fork --kill-child --propagation private \
		"$0" inside "$@"
}

inside() {
	local binary=$1 here=$2 work=$3 root=$3/ov/root
	ip link set lo up
	mkdir "$work/ov"
	mount -t tmpfs tmpfs "$work/ov"
	mkdir "$work"/ov/{up,work,root}
	mount -t overlay overlay -o "lowerdir=/,upperdir=$work/ov/up,workdir=$work/ov/work" "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
	mount --rbind /dev "$root/dev"
	mount -t tmpfs tmpfs "$root/run"
	mkdir "$root/run/try" "$root/old"
	mount --bind "$work" "$root/run/try"
	install -m 755 "$binary" "$root/usr/local/bin/reuseportd"
	install -m 755 "$0" "$root/usr/local/bin/try-systemd"
	install -D -m 644 "$here/reuseportd.yaml" "$root/etc/reuseportd/reuseportd.yaml"
	install -m 644 "$here/reuseportd.service" "$root/etc/systemd/system/"
	mkdir "$root/etc/systemd/system/reuseportd.service.d"
	printf '[Service]\nWatchdogSec=3\n' > "$root/etc/systemd/system/reuseportd.service.d/sooner.conf"
	cat > "$root/etc/systemd/system/try.target" <<-X
		[Unit]
		DefaultDependencies=no
		Wants=try.service systemd-journald.socket systemd-journald.service
	X
	cat > "$root/etc/systemd/system/try.service" <<-X
		[Unit]
		DefaultDependencies=no
		[Service]
		Type=oneshot
		ExecStart=/usr/local/bin/try-systemd driver
		StandardOutput=append:/run/try/log
		StandardError=append:/run/try/log
		ExecStopPost=/bin/systemctl --force --force poweroff
	X
	cd "$root"
	pivot_root . old
	umount -l /old
	container=try exec /lib/systemd/systemd --system --unit=try.target --log-target=console --show-status=0 \
		</dev/null >/run/try/systemd.log 2>&1
}

fail() {
	echo "FAILED: $*"
	systemctl status --no-pager -l reuseportd || true
	journalctl -u reuseportd --no-pager | tail -20
	exit 1
}
show() { systemctl show --value -p "$1" reuseportd; }

# main_is_the_master waits until systemd follows the process that the PID file names.
main_is_the_master() {
	local _
	for _ in $(seq 100); do
		[ "$(show MainPID)" = "$(cat /run/reuseportd/reuseportd.pid)" ] && break
		sleep 0.05
	done
	[ "$(show MainPID)" = "$(cat /run/reuseportd/reuseportd.pid)" ] || fail "$1: MainPID is $(show MainPID), the PID file says otherwise"
	[ "$(show ActiveState)/$(show SubState)" = active/running ] || fail "$1: $(show ActiveState)/$(show SubState)"
	curl -sf -m 5 http://127.0.0.1:8080/ >/dev/null || fail "$1: it doesn't answer"
	echo "ok: $1 (main PID $(show MainPID), $(show StatusText))"
}

# it_is_alive waits until systemd has heard twice that it is.
it_is_alive() {
	local _ heard
	for _ in 1 2; do
		heard=$(show WatchdogTimestampMonotonic)
		for _ in $(seq 100); do [ "$(show WatchdogTimestampMonotonic)" != "$heard" ] && break; sleep 0.05; done
		[ "$(show WatchdogTimestampMonotonic)" != "$heard" ] || fail "$1: no keep-alives come"
	done
	echo "ok: $1: keep-alives come"
}

driver() {
	local old _
	systemctl start reuseportd || fail start
	main_is_the_master start
	systemctl reload reuseportd || fail reload
	main_is_the_master reload
	it_is_alive reload

	cp /etc/reuseportd/reuseportd.yaml /etc/reuseportd/good
	echo 'bogus: 1' >> /etc/reuseportd/reuseportd.yaml
	! systemctl reload reuseportd 2>/dev/null || fail "a reload of a bad configuration is reported as done"
	main_is_the_master "a bad configuration fails the reload and nothing else"
	mv /etc/reuseportd/good /etc/reuseportd/reuseportd.yaml
	systemctl reload reuseportd || fail "reload after a bad configuration"

	for _ in 1 2 3; do
		old=$(show MainPID)
		install -m 755 /usr/local/bin/reuseportd /usr/local/bin/next
		mv /usr/local/bin/next /usr/local/bin/reuseportd
		reuseportd upgrade || fail upgrade
		main_is_the_master upgrade
		[ "$(show MainPID)" != "$old" ] || fail "upgrade: the master is the old one"
	done
	old=$(show MainPID)
	systemctl kill -s USR2 --kill-whom=main reuseportd
	for _ in $(seq 100); do [ "$(show MainPID)" != "$old" ] && break; sleep 0.05; done
	[ "$(show MainPID)" != "$old" ] || fail "USR2: the master is the old one"
	main_is_the_master "upgrade by systemctl kill -s USR2"
	it_is_alive "upgrades"
	systemctl reload reuseportd || fail "reload after upgrades"
	main_is_the_master "reload after upgrades"
	[ "$(show NRestarts)" = 0 ] || fail "systemd restarted it $(show NRestarts) times"

	kill -9 "$(show MainPID)"
	curl -sf -m 5 http://127.0.0.1:8080/ >/dev/null || fail "a killed master ended the workers"
	for _ in $(seq 100); do [ "$(show NRestarts)" = 1 ] && [ "$(show ActiveState)" = active ] && break; sleep 0.05; done
	main_is_the_master "a killed master is started again, its workers serve on"
	for _ in $(seq 100); do [ "$(pgrep -fc 'reuseportd: worker')" = "$(nproc)" ] && break; sleep 0.05; done
	[ "$(pgrep -fc 'reuseportd: worker')" = "$(nproc)" ] || fail "$(pgrep -fc 'reuseportd: worker') workers after a master was killed"
	echo "ok: and hand over to the next master's"

	kill -STOP "$(show MainPID)"
	for _ in $(seq 300); do [ "$(show NRestarts)" = 2 ] && [ "$(show ActiveState)" = active ] && break; sleep 0.05; done
	[ "$(show NRestarts)" = 2 ] || fail "a master that is stopped is left so"
	main_is_the_master "a master that says nothing is replaced"
	it_is_alive "it"

	systemctl stop reuseportd || fail stop
	[ "$(show Result)" = success ] || fail "stop: $(show Result)"
	echo "ok: stop"
	! pgrep -f 'reuseportd: worker' || fail "stop left workers"
	echo "ok: nothing is left, of the killed master neither"

	printf '[Service]\nType=exec\nNotifyAccess=none\nWatchdogSec=0\n' > /etc/systemd/system/reuseportd.service.d/untold.conf
	systemctl daemon-reload
	systemctl start reuseportd || fail "start with Type=exec"
	for _ in $(seq 100); do reuseportd status >/dev/null 2>&1 && break; sleep 0.05; done
	old=$(show MainPID)
	! reuseportd upgrade 2>/run/try/refused || fail "an upgrade is done that systemd isn't told of"
	grep -q Type=notify /run/try/refused || fail "refused for another reason: $(cat /run/try/refused)"
	[ "$(show MainPID)" = "$old" ] && [ "$(show NRestarts)" = 0 ] || fail "a refused upgrade has changed something"
	systemctl stop reuseportd || fail "stop with Type=exec"
	echo "ok: an upgrade is refused where systemd isn't told of it"
	touch /run/try/passed
}

case $part in
	start) start "$@" ;;
	*) shift; "$part" "$@" ;;
esac

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"
)

// streamModule is where Debian has nginx's TCP proxy.
const streamModule = "/usr/lib/nginx/modules/ngx_stream_module.so"

// install brings what is missing from Debian. Without root, or where it fails,
// it says so, and the table has fewer columns or cells.
func install(ctx context.Context) {
	var missing []string
	if _, err := exec.LookPath("nginx"); err != nil {
		missing = append(missing, "nginx-light")
	}
	if _, err := os.Stat(streamModule); err != nil {
		missing = append(missing, "libnginx-mod-stream")
	}
	if _, err := exec.LookPath("haproxy"); err != nil {
		missing = append(missing, "haproxy")
	}
	if len(missing) == 0 {
		return
	}
	packages := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		fmt.Fprintf(os.Stderr, "bench-rivals: not here, and not installed without root and apt-get: %s\n", packages)
		return
	}
	fmt.Fprintf(os.Stderr, "bench-rivals: not here, so apt-get installs them (Debian may start their services): %s\n", packages)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "bench-rivals: apt-get %s: %v\n%s", args[0], err, out)
		}
	}
}

package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Package is a Debian package, and the command or file that it provides.
type Package struct{ Name, Brings string }

// NginxStream is the module in Debian that has nginx's TCP proxy.
const NginxStream = "/usr/lib/nginx/modules/ngx_stream_module.so"

// Debian packages that measurements need.
var (
	NginxPackage       = Package{"nginx-light", "nginx"}
	NginxStreamPackage = Package{"libnginx-mod-stream", NginxStream}
	HAProxyPackage     = Package{"haproxy", "haproxy"}
	WrkPackage         = Package{"wrk", "wrk"}
	IperfPackage       = Package{"iperf3", "iperf3"}
)

func (p Package) missing() bool {
	if filepath.IsAbs(p.Brings) {
		_, err := os.Stat(p.Brings)
		return err != nil
	}
	_, err := exec.LookPath(p.Brings)
	return err != nil
}

// Install installs missing Debian packages. Without root, or if that fails, it says so in
// the name of the command, and what needs a package will find it missing.
func Install(ctx context.Context, command string, wanted ...Package) {
	var missing []string
	for _, p := range wanted {
		if p.missing() {
			missing = append(missing, p.Name)
		}
	}
	if len(missing) == 0 {
		return
	}
	packages := strings.Join(missing, " ")
	if _, err := exec.LookPath("apt-get"); err != nil || os.Geteuid() != 0 {
		fmt.Fprintf(os.Stderr, "%s: not here, and not installed without root and apt-get: %s\n", command, packages)
		return
	}
	fmt.Fprintf(os.Stderr, "%s: not here, so apt-get installs them (Debian may start their services): %s\n", command, packages)
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for _, args := range [][]string{
		{"update", "-q"},
		append([]string{"install", "-q", "-y", "--no-install-recommends"}, missing...),
	} {
		cmd := exec.CommandContext(ctx, "apt-get", args...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%s: apt-get %s: %v\n%s", command, args[0], err, out)
		}
	}
}

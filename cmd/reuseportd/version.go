package main

import (
	"fmt"
	"runtime/debug"
)

// version is set by -ldflags "-X main.version=…".
var version string

type versionCmd struct{}

// Run prints the version.
func (versionCmd) Run(c *cli) error {
	_, err := fmt.Fprintln(c.out, "reuseportd", versionString())
	return err
}

// versionString returns version, or else the source's revision as the build has recorded
// it.
func versionString() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}

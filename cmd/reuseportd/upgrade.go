package main

import "reuseportd/internal/control"

type upgradeCmd struct {
	changeFlags
	Force bool `help:"Upgrade though the process that has started the master takes its end for that of the service, for which it is refused otherwise."`
}

// Run asks for an upgrade.
func (u *upgradeCmd) Run(c *cli) error {
	return c.change(control.Request{Command: "upgrade", Force: u.Force}, u.changeFlags)
}

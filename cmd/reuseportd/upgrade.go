package main

type upgradeCmd struct {
	changeFlags
}

// Run asks for an upgrade.
func (u *upgradeCmd) Run(c *cli) error { return c.change("upgrade", u.changeFlags) }

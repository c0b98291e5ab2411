package main

type upgradeCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks for an upgrade.
func (u *upgradeCmd) Run(c *cli) error { return c.change("upgrade", u.JSON) }

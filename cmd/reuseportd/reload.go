package main

type reloadCmd struct {
	changeFlags
}

// Run asks for a reload.
func (r *reloadCmd) Run(c *cli) error { return c.change("reload", r.changeFlags) }

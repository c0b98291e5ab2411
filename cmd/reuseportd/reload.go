package main

type reloadCmd struct {
	JSON bool `help:"Print the receipt as JSON."`
}

// Run asks for a reload.
func (r *reloadCmd) Run(c *cli) error { return c.change("reload", r.JSON) }

package config

// Material is files that the configuration names and whose contents serve: read by the master, and exchanged while the
// configuration stays as it is. See the package material.
type Material struct {
	Kind  string // material.Kind
	Paths []string
	Pos   Position // of the key that names them
}

// Materials returns all of them, as they stand in the file.
func (c *Config) Materials() (all []Material) {
	for i := range c.Listeners {
		if t := c.Listeners[i].TLS; t != nil {
			all = append(all, t.materials()...)
		}
		h := c.Listeners[i].HTTP
		if h == nil {
			continue
		}
		for j := range h.Routes {
			if r := h.Routes[j].Respond; r != nil && r.File != "" {
				all = append(all, r.Material())
			}
		}
	}
	for i := range c.Upstreams {
		if t := c.Upstreams[i].TLS; t != nil {
			all = append(all, t.materials()...)
		}
	}
	return all
}

// Material returns what File names.
func (r *Respond) Material() Material {
	return Material{Kind: "page", Paths: []string{r.File}, Pos: r.FilePos}
}

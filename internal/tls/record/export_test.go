package record

// Update changes the own key of a connection of TLS 1.3.
func (c *Conn) Update(raw []byte, ask bool) []byte { return c.update(raw, ask) }

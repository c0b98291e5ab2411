package http

import (
	"reuseportd/internal/config"
	"reuseportd/internal/service/http/files"
	"reuseportd/internal/service/http/stream"
)

// root is a route that answers with files.
type root struct {
	*files.Root
	path string
}

func newFiles(_ *Site, c *config.Route) (kind, error) {
	if c.Files == nil {
		return nil, nil
	}
	r, err := files.Open(c.Files)
	if err != nil {
		return nil, err
	}
	return &root{r, c.Path}, nil
}

func (r *root) bind(b *binding) stream.Route {
	return share(b, root{}, func() *files.Room { return files.NewRoom(b.loop) }).Route(r.Root, r.path)
}

func (r *root) close() { r.Close() }

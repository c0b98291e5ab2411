package worker

import "sync"

// mailbox holds what the worker's goroutine is to call. Nobody who posts ever
// waits, least of all a loop.
type mailbox struct {
	mu    sync.Mutex
	posts []func()
	ready chan struct{} // has room for one
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

// post has f called, in the order of the posts.
func (b *mailbox) post(f func()) {
	b.mu.Lock()
	b.posts = append(b.posts, f)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// offer is post for what may be forgone when much is waiting.
func (b *mailbox) offer(f func()) {
	b.mu.Lock()
	busy := len(b.posts) > 1000
	b.mu.Unlock()
	if !busy {
		b.post(f)
	}
}

// take returns what was posted since.
func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	posts := b.posts
	b.posts = nil
	return posts
}

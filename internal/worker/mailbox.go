package worker

import "sync"

// mailbox holds functions for the worker's goroutine to call. Posting never waits, since
// loops do it.
type mailbox struct {
	mu    sync.Mutex
	posts []func()
	ready chan struct{} // has room for one
}

func newMailbox() *mailbox { return &mailbox{ready: make(chan struct{}, 1)} }

// post makes the worker's goroutine call f, in the order of the posts.
func (b *mailbox) post(f func()) {
	b.mu.Lock()
	b.posts = append(b.posts, f)
	b.mu.Unlock()
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// offer is like post, but drops f if too many functions are waiting.
func (b *mailbox) offer(f func()) {
	b.mu.Lock()
	busy := len(b.posts) > 1000
	b.mu.Unlock()
	if !busy {
		b.post(f)
	}
}

// take returns what has been posted since its last call.
func (b *mailbox) take() []func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	posts := b.posts
	b.posts = nil
	return posts
}

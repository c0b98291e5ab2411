// The floor with io_uring instead of epoll, and with the kernel's own headers
// instead of liburing: one ring for each process; multishot accepts and receives,
// whose buffers the kernel takes from a ring; sends, all of a turn in one system
// call, which also waits for the next turn.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/io_uring.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "common.h"

#ifndef IORING_SETUP_NO_SQARRAY // Linux 6.6
#define IORING_SETUP_NO_SQARRAY (1U << 16)
#endif

enum {
	SUBMISSIONS = 2048,
	COMPLETIONS = 16384,
	BUFFERS = 512,     // a power of two
	BUFFER_SIZE = 1024,
};

// In user_data above the descriptor: what is completed.
enum { ACCEPT_KEPT, ACCEPT_CHURN, RECV_KEPT, OTHER };

static int ring;
static _Atomic unsigned *sq_head, *sq_tail, *cq_head, *cq_tail;
static unsigned sq_mask, cq_mask, tail;
static struct io_uring_sqe *sqes;
static struct io_uring_cqe *cqes;
static struct io_uring_buf_ring *given;
static unsigned short given_tail;
static char *buffers;

// Submits all and returns when there are so many completions.
static int enter(unsigned wanted)
{
	unsigned head = atomic_load_explicit(sq_head, memory_order_acquire);

	atomic_store_explicit(sq_tail, tail, memory_order_release);
	return syscall(SYS_io_uring_enter, ring, tail - head, wanted,
	               IORING_ENTER_GETEVENTS | IORING_ENTER_REGISTERED_RING, NULL, 0);
}

static struct io_uring_sqe *submission(int op, int fd, int kind)
{
	struct io_uring_sqe *s;

	while (tail - atomic_load_explicit(sq_head, memory_order_acquire) == SUBMISSIONS)
		enter(0);
	s = &sqes[tail++ & sq_mask];
	memset(s, 0, sizeof *s);
	s->opcode = op;
	s->fd = fd;
	s->user_data = (uint64_t)kind << 32 | (uint32_t)fd;
	return s;
}

static void accept_all(int listener, int kind)
{
	struct io_uring_sqe *s = submission(IORING_OP_ACCEPT, listener, kind);

	s->ioprio = IORING_ACCEPT_MULTISHOT;
	s->accept_flags = SOCK_CLOEXEC;
}

static void receive_all(int fd, int kind)
{
	struct io_uring_sqe *s = submission(IORING_OP_RECV, fd, kind);

	s->flags = IOSQE_BUFFER_SELECT; // of group 0
	s->ioprio = IORING_RECV_MULTISHOT;
}

static void send_answer(int fd, const struct answer *a)
{
	struct io_uring_sqe *s = submission(IORING_OP_SEND, fd, OTHER);

	s->addr = (uintptr_t)a->text;
	s->len = a->size;
	s->msg_flags = MSG_NOSIGNAL;
	s->flags = IOSQE_CQE_SKIP_SUCCESS;
}

// A connection of one request: receive, answer and close are submitted at once,
// each to start when the one before it has ended, well or not.
static void serve_once(int fd)
{
	static char input[4096]; // nobody looks at it
	struct io_uring_sqe *s = submission(IORING_OP_RECV, fd, OTHER);

	s->addr = (uintptr_t)input;
	s->len = sizeof input;
	s->flags = IOSQE_CQE_SKIP_SUCCESS | IOSQE_IO_HARDLINK;
	send_answer(fd, &last);
	sqes[(tail - 1) & sq_mask].flags |= IOSQE_IO_HARDLINK;
	submission(IORING_OP_CLOSE, fd, OTHER)->flags = IOSQE_CQE_SKIP_SUCCESS;
}

static void give(int buffer)
{
	struct io_uring_buf *b = &given->bufs[given_tail++ & (BUFFERS - 1)];

	b->addr = (uintptr_t)(buffers + buffer * BUFFER_SIZE);
	b->len = BUFFER_SIZE;
	b->bid = buffer;
}

static void publish_buffers(void)
{
	atomic_store_explicit((_Atomic unsigned short *)&given->tail, given_tail, memory_order_release);
}

static void *map(size_t size, int flags, int fd, off_t offset)
{
	void *m = mmap(NULL, size, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, fd, offset);

	if (m == MAP_FAILED)
		die("mmap");
	return m;
}

static void register_with(unsigned what, void *argument, unsigned n)
{
	if (syscall(SYS_io_uring_register, ring, what, argument, n) < 0)
		die("io_uring_register");
}

static void open_ring(void)
{
	struct io_uring_params p = {
		.cq_entries = COMPLETIONS,
		.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_NO_SQARRAY |
		         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
	};
	struct io_uring_buf_reg reg = {.ring_entries = BUFFERS};
	struct io_uring_rsrc_update self = {.offset = -1U};
	char *m;

	ring = syscall(SYS_io_uring_setup, SUBMISSIONS, &p);
	if (ring < 0)
		die("io_uring_setup");
	m = map(p.cq_off.cqes + p.cq_entries * sizeof *cqes, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	sqes = map(p.sq_entries * sizeof *sqes, MAP_SHARED, ring, IORING_OFF_SQES);
	sq_head = (void *)(m + p.sq_off.head);
	sq_tail = (void *)(m + p.sq_off.tail);
	sq_mask = *(unsigned *)(m + p.sq_off.ring_mask);
	cq_head = (void *)(m + p.cq_off.head);
	cq_tail = (void *)(m + p.cq_off.tail);
	cq_mask = *(unsigned *)(m + p.cq_off.ring_mask);
	cqes = (void *)(m + p.cq_off.cqes);

	given = map(BUFFERS * sizeof(struct io_uring_buf), MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	buffers = map(BUFFERS * BUFFER_SIZE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	reg.ring_addr = (uintptr_t)given;
	register_with(IORING_REGISTER_PBUF_RING, &reg, 1);
	for (int i = 0; i < BUFFERS; i++)
		give(i);
	publish_buffers();

	self.data = ring;
	register_with(IORING_REGISTER_RING_FDS, &self, 1);
	ring = self.offset;
}

static void accepted(const struct io_uring_cqe *c, int listener, int kind)
{
	if (c->res >= 0 && kind == ACCEPT_CHURN)
		serve_once(c->res);
	else if (c->res >= 0)
		receive_all(c->res, RECV_KEPT);
	if (!(c->flags & IORING_CQE_F_MORE))
		accept_all(listener, kind);
}

static void received(const struct io_uring_cqe *c, int fd)
{
	if (c->flags & IORING_CQE_F_BUFFER)
		give(c->flags >> IORING_CQE_BUFFER_SHIFT);
	if (c->res > 0)
		send_answer(fd, &kept);
	else if (c->res != -ENOBUFS) {
		submission(IORING_OP_CLOSE, fd, OTHER)->flags = IOSQE_CQE_SKIP_SUCCESS;
		return;
	}
	if (!(c->flags & IORING_CQE_F_MORE))
		receive_all(fd, RECV_KEPT);
}

static void serve(int kept_listener, int churn_listener)
{
	open_ring();
	accept_all(kept_listener, ACCEPT_KEPT);
	accept_all(churn_listener, ACCEPT_CHURN);
	for (;;) {
		unsigned head, end;
		if (enter(1) < 0 && errno != EINTR && errno != EAGAIN && errno != EBUSY)
			die("io_uring_enter");
		head = atomic_load_explicit(cq_head, memory_order_relaxed);
		end = atomic_load_explicit(cq_tail, memory_order_acquire);
		for (; head != end; head++) {
			const struct io_uring_cqe *c = &cqes[head & cq_mask];
			int kind = c->user_data >> 32, fd = (int)(uint32_t)c->user_data;
			if (kind == ACCEPT_KEPT || kind == ACCEPT_CHURN)
				accepted(c, fd, kind);
			else if (kind == RECV_KEPT)
				received(c, fd);
		}
		atomic_store_explicit(cq_head, end, memory_order_release);
		publish_buffers();
	}
}

int main(int argc, char **argv)
{
	return run(argc, argv, 0);
}

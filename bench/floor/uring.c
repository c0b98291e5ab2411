// The floor with io_uring instead of epoll, and with the kernel's own header
// instead of liburing. Of what was tried, this is the cheapest: one ring for each
// process, whose work is done when it waits (DEFER_TASKRUN); multishot accepts and
// receives, into buffers that the kernel takes from a ring; direct descriptors,
// numbers in the ring's own table; all sends of a turn in the system call that
// waits for the next turn.
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
	BUFFERS = 512, // a power of two
	BUFFER_SIZE = 1024,
	CONNECTIONS = 16384, // at most
};

// In user_data above the descriptor: what is completed.
enum { ACCEPT_KEPT, ACCEPT_CHURN, RECV_KEPT, RECV_CHURN, OTHER };

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

// Lets so many submissions go together, as linked ones must.
static void make_room(unsigned n)
{
	while (SUBMISSIONS - (tail - atomic_load_explicit(sq_head, memory_order_acquire)) < n)
		enter(0);
}

static struct io_uring_sqe *submission(int op, int fd, int kind)
{
	struct io_uring_sqe *s;

	make_room(1);
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
	s->file_index = IORING_FILE_INDEX_ALLOC;
}

// On a connection of one request a receive is for once: a multishot one would hold
// the connection open.
static void receive(int fd, int kind)
{
	struct io_uring_sqe *s = submission(IORING_OP_RECV, fd, kind);

	s->flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT; // of group 0
	if (kind == RECV_KEPT)
		s->ioprio = IORING_RECV_MULTISHOT;
	else
		s->len = BUFFER_SIZE;
}

static void send_answer(int fd, const struct answer *a, int flags)
{
	struct io_uring_sqe *s = submission(IORING_OP_SEND, fd, OTHER);

	s->addr = (uintptr_t)a->text;
	s->len = a->size;
	s->msg_flags = MSG_NOSIGNAL;
	s->flags = IOSQE_FIXED_FILE | IOSQE_CQE_SKIP_SUCCESS | flags;
}

static void close_direct(int fd)
{
	struct io_uring_sqe *s = submission(IORING_OP_CLOSE, 0, OTHER);

	s->file_index = fd + 1;
	s->flags = IOSQE_CQE_SKIP_SUCCESS;
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
	struct io_uring_rsrc_register files = {.nr = CONNECTIONS, .flags = IORING_RSRC_REGISTER_SPARSE};
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

	register_with(IORING_REGISTER_FILES2, &files, sizeof files);

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
	if (c->res >= 0)
		receive(c->res, kind == ACCEPT_KEPT ? RECV_KEPT : RECV_CHURN);
	if (!(c->flags & IORING_CQE_F_MORE))
		accept_all(listener, kind);
}

static void received(const struct io_uring_cqe *c, int fd, int kind)
{
	if (c->flags & IORING_CQE_F_BUFFER)
		give(c->flags >> IORING_CQE_BUFFER_SHIFT);
	if (c->res == -ENOBUFS) {
		receive(fd, kind);
	} else if (c->res <= 0) {
		close_direct(fd);
	} else if (kind == RECV_CHURN) { // the close starts when the send has ended, well or not
		make_room(2);
		send_answer(fd, &last, IOSQE_IO_HARDLINK);
		close_direct(fd);
	} else {
		send_answer(fd, &kept, 0);
		if (!(c->flags & IORING_CQE_F_MORE))
			receive(fd, kind);
	}
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
			else if (kind == RECV_KEPT || kind == RECV_CHURN)
				received(c, fd, kind);
		}
		atomic_store_explicit(cq_head, end, memory_order_release);
		publish_buffers();
	}
}

int main(int argc, char **argv)
{
	return run(argc, argv, 0);
}

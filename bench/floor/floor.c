// The floor: the system calls that no server with epoll does without. It answers
// whatever it reads, so it is no HTTP server.
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "common.h"

enum { EVENTS = 512 };

// In an event's data above the descriptor: its connection ends after the answer.
#define ONCE (1ull << 32)

static char input[1 << 16];

static void watch(int epoll, int fd, uint32_t events, uint64_t flags)
{
	struct epoll_event ev = {.events = events, .data.u64 = (uint32_t)fd | flags};

	if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
		die("epoll_ctl");
}

// One connection for each event: most often there is no second one, and the
// listener, level-triggered, comes again if there is.
static void take(int epoll, int listener, uint64_t flags)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0)
		watch(epoll, fd, EPOLLIN | EPOLLRDHUP | EPOLLET, flags);
}

// Edge-triggered, a connection that has been read once needs no second read to
// be sure that it's empty: what comes later is a new event, as is its end.
static void answer(int fd, bool once)
{
	if (recv(fd, input, sizeof input, 0) <= 0) {
		close(fd);
		return;
	}
	if (once) {
		send(fd, last.text, last.size, MSG_NOSIGNAL);
		close(fd);
	} else {
		send(fd, kept.text, kept.size, MSG_NOSIGNAL);
	}
}

static void serve(int kept_listener, int churn_listener)
{
	struct epoll_event events[EVENTS];
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	watch(epoll, kept_listener, EPOLLIN, 0);
	watch(epoll, churn_listener, EPOLLIN, ONCE);
	for (;;) {
		int n = epoll_wait(epoll, events, EVENTS, -1);
		for (int i = 0; i < n; i++) {
			int fd = (int)(uint32_t)events[i].data.u64;
			uint64_t once = events[i].data.u64 & ONCE;
			if (fd == kept_listener || fd == churn_listener)
				take(epoll, fd, once);
			else
				answer(fd, once);
		}
	}
}

int main(int argc, char **argv)
{
	return run(argc, argv, SOCK_NONBLOCK);
}

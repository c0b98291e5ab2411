// flood ADDRESS PORT CONNECTIONS WINDOW PATH plays a client that takes all it can get: each connection
// sends GETs without a pause and reads all answers, or has always WINDOW requests under way, if that is not
// 0. It prints "ready" when all are connected, and the number of bytes read when it is terminated. Answers must all have one length.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { most = 16384, pieces = 512 };

static struct client { // by descriptor
	unsigned long got; // bytes of answers
	unsigned long answered, sent; // requests, with a window
	size_t off; // of the request that is being sent
} clients[65536];

static char request[1024], block[1024 * pieces], trash[1 << 18];
static size_t request_size, answer_size;
static volatile sig_atomic_t over;

static void stop(int sig) { (void)sig; over = 1; }

static void fail(const char *what) { perror(what); exit(1); }

static int dial(const struct sockaddr_in *to) {
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0) fail("socket");
	if (connect(fd, (const struct sockaddr *)to, sizeof *to) < 0) fail("connect");
	return fd;
}

// one request, to learn how long an answer is
static size_t learn(int fd) {
	size_t n = 0, end = 0;
	if (write(fd, request, request_size) != (ssize_t)request_size) fail("write");
	for (;;) {
		ssize_t k = read(fd, trash + n, sizeof trash - 1 - n);
		if (k <= 0) fail("read the first answer");
		n += k;
		trash[n] = 0;
		char *head = strstr(trash, "\r\n\r\n"), *length = strcasestr(trash, "content-length: ");
		if (!head) continue;
		if (!length) { fprintf(stderr, "an answer without a length\n"); exit(1); }
		end = head + 4 - trash + strtoul(length + 16, NULL, 10);
		if (n >= end) return end;
	}
}

static void send_more(int fd, struct client *c, unsigned long window) {
	for (;;) {
		size_t size = sizeof block / request_size * request_size;
		if (window) {
			unsigned long free = window - (c->sent - c->answered);
			if (free == 0) return;
			if (size > free * request_size - c->off) size = free * request_size - c->off;
		} else
			size -= c->off;
		ssize_t k = write(fd, block + c->off, size);
		if (k < 0) {
			if (errno == EAGAIN) return;
			fail("write");
		}
		c->sent += (c->off + k) / request_size;
		c->off = (c->off + k) % request_size;
		if ((size_t)k < size) return;
	}
}

int main(int argc, char **argv) {
	if (argc != 6) return 2;
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[2]))};
	inet_pton(AF_INET, argv[1], &to.sin_addr);
	int n = atoi(argv[3]);
	unsigned long window = strtoul(argv[4], NULL, 10), total = 0;
	request_size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", argv[5]);
	for (size_t i = 0; i + request_size <= sizeof block; i += request_size) memcpy(block + i, request, request_size);
	struct sigaction act = {.sa_handler = stop};
	sigaction(SIGTERM, &act, NULL);
	signal(SIGPIPE, SIG_IGN);
	int ep = epoll_create1(0);
	if (n > most || n < 1) return 2;
	for (int i = 0; i < n; i++) {
		int fd = dial(&to);
		if (i == 0) answer_size = learn(fd);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		struct epoll_event ev = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) < 0) fail("epoll_ctl");
	}
	printf("ready\n");
	fflush(stdout);
	while (!over) {
		struct epoll_event ev[256];
		int k = epoll_wait(ep, ev, 256, 1000);
		for (int i = 0; i < k && !over; i++) {
			int fd = ev[i].data.fd;
			struct client *c = &clients[fd];
			ssize_t r = 0;
			// A few reads at a time, so that no connection of ours starves another.
			for (int j = 0; j < 4 && (r = read(fd, trash, sizeof trash)) > 0; j++) {
				c->got += r;
				total += r;
			}
			if (r == 0 || (r < 0 && errno != EAGAIN)) {
				fprintf(stderr, "the server has closed a connection\n");
				return 1;
			}
			c->answered = c->got / answer_size;
			send_more(fd, c, window);
			if (r > 0) { // more may be there: edge-triggered epoll has to be asked again
				struct epoll_event again = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = fd};
				epoll_ctl(ep, EPOLL_CTL_MOD, fd, &again);
			}
		}
	}
	printf("%lu %zu\n", total, answer_size);
	return 0;
}

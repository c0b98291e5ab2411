// What the floors have in common: what they answer, how they listen, and one
// process for each loop, which dies with its parent.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct answer {
	char text[512];
	size_t size;
};

// Written for each read: kept leaves the connection open, last is before its end.
static struct answer kept, last;

// Serves both listening sockets and doesn't return.
static void serve(int kept_listener, int churn_listener);

static void die(const char *what)
{
	perror(what);
	exit(1);
}

// The date is that of the start: what would keep it right is a timer's cost, once a second.
static void write_answer(struct answer *a, const char *header)
{
	char date[64];
	time_t now = time(NULL);

	strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime(&now));
	a->size = snprintf(a->text, sizeof a->text,
	                   "HTTP/1.1 200 OK\r\nServer: reuseportd\r\nContent-Type: text/plain; charset=utf-8\r\n"
	                   "Content-Length: 6\r\nDate: %s\r\n%s\r\nhello\n", date, header);
}

// Connections inherit TCP_NODELAY from their listener.
static int listen_on(const char *address, int flags)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	const char *colon = strrchr(address, ':');
	char host[INET_ADDRSTRLEN] = "";
	int on = 1, fd;

	if (colon && colon - address < (long)sizeof host)
		memcpy(host, address, colon - address);
	if (inet_pton(AF_INET, host, &sin.sin_addr) != 1) {
		fprintf(stderr, "%s is not an IPv4 address and port\n", address);
		exit(2);
	}
	sin.sin_port = htons(atoi(colon + 1));
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) ||
	    bind(fd, (struct sockaddr *)&sin, sizeof sin) || listen(fd, 4096))
		die(address);
	return fd;
}

// Starts the processes, whose listening sockets have the given flags, and ends when one of them does.
static int run(int argc, char **argv, int flags)
{
	struct rlimit limit;
	pid_t parent = getpid();

	if (argc != 4) {
		fprintf(stderr, "usage: %s KEPT_HOST:PORT CHURN_HOST:PORT PROCESSES\n", argv[0]);
		return 2;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
	write_answer(&kept, "");
	write_answer(&last, "Connection: close\r\n");
	for (int i = atoi(argv[3]); i > 0; i--) {
		pid_t pid = fork();
		if (pid < 0)
			die("fork");
		if (pid > 0)
			continue;
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() == parent)
			serve(listen_on(argv[1], flags), listen_on(argv[2], flags));
		exit(1);
	}
	wait(NULL);
	return 1;
}

/* Lines on the console. Nobody may be reading there, so a line that does not go out soon is dropped and counted. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PATIENCE_MS = 200 };

static int console = -1;
static unsigned lost_lines;

double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_BOOTTIME, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void reopen_console(void)
{
	if (console >= 0)
		close(console);
	console = open("/dev/console", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

/* Standard input is empty and standard output is the console: containers inherit both. */
void open_console(void)
{
	int null = open("/dev/null", O_RDWR | O_NOCTTY);
	int out = open("/dev/console", O_WRONLY | O_NOCTTY);

	if (null >= 0)
		dup2(null, STDIN_FILENO);
	for (int fd = STDOUT_FILENO; fd <= STDERR_FILENO; fd++)
		if (out >= 0 || null >= 0)
			dup2(out >= 0 ? out : null, fd);
	if (null > STDERR_FILENO)
		close(null);
	if (out > STDERR_FILENO)
		close(out);
	reopen_console();
}

static bool wait_writable(int milliseconds)
{
	struct pollfd fd = { .fd = console, .events = POLLOUT };

	return poll(&fd, 1, milliseconds) > 0;
}

static bool put(const char *text, size_t length)
{
	int patience = lost_lines ? 0 : PATIENCE_MS;

	while (length > 0) {
		ssize_t written = write(console, text, length);

		if (written > 0) {
			text += written;
			length -= (size_t)written;
		} else if (written < 0 && errno == EINTR) {
			continue;
		} else if (written < 0 && errno == EAGAIN && patience > 0) {
			wait_writable(patience);
			patience = 0;
		} else {
			return false;
		}
	}
	return true;
}

/* For a moment in which nothing may be allocated or formatted. */
void say_text(const char *text)
{
	put(text, strlen(text));
}

static void put_line(const char *message)
{
	char line[1024];
	double time = now();
	int length = snprintf(line, sizeof(line), "[%4u.%03u] init: %s\n", (unsigned)time,
			      (unsigned)((time - (unsigned)time) * 1000), message);

	if (length >= (int)sizeof(line)) {
		length = sizeof(line) - 1;
		line[length - 1] = '\n';
	}
	if (put(line, (size_t)length))
		return;
	lost_lines++;
	if (errno == EIO || errno == EBADF)
		reopen_console();
}

void say(const char *format, ...)
{
	char message[900];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(message, sizeof(message), format, arguments);
	va_end(arguments);
	if (lost_lines && wait_writable(0)) {
		char notice[64];

		snprintf(notice, sizeof(notice), "%u lines were lost: the console was full", lost_lines);
		lost_lines = 0;
		put_line(notice);
	}
	put_line(message);
}

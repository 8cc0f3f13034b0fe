/* An agent for tests: PID 1 of a guest, speaks as much of hyperstart's protocol as it takes to run a container.
 *
 * Control frames: u32 code, u32 length with these 8 bytes, body. Terminal frames: u64 stream, u32 length with these 12
 * bytes, data; none is the end. Big-endian. Like hyperstart it says NEXT for what it reads, keeps 512 bytes of unread
 * input, takes no frames while there are more, answers one for an unknown stream by an empty one, and says 0 for death
 * by a signal.
 *
 * testagent=MODE on the kernel's command line makes it misbehave; see misbehave() and obey().
 */
#include "agent.h"
#include <arpa/inet.h>
#include <endian.h>
#include <glob.h>
#include <poll.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>

#define VERSION 4244
#define MAX_FRAME (1 << 20)

static int control, terminal, pod, destroying;
static char mode[64] = "";

static int is(const char *name)
{
	return !strcmp(mode, name);
}

static void off(void)
{
	sync();
	reboot(RB_POWER_OFF);
}

static void send_all(int fd, const void *data, size_t size)
{
	const char *at = data;
	ssize_t done;

	while (size && ((done = write(fd, at, size)) > 0 || errno == EINTR))
		if (done > 0) {
			at += done;
			size -= done;
		}
}

void say(uint32_t code, const void *body, uint32_t size)
{
	char *frame = malloc(8 + size);

	((uint32_t *)frame)[0] = htonl(code);
	((uint32_t *)frame)[1] = htonl(8 + size);
	memcpy(frame + 8, body, size);
	send_all(control, frame, 8 + size);
	free(frame);
}

static void say_number(uint32_t code, uint32_t number)
{
	number = htonl(number);
	say(code, &number, 4);
}

void stream(uint64_t number, const void *data, uint32_t size)
{
	char frame[12 + 4096];
	uint64_t first = htobe64(number);
	uint32_t length = htonl(12 + size);

	memcpy(frame, &first, 8);
	memcpy(frame + 8, &length, 4);
	memcpy(frame + 12, data, size);
	send_all(terminal, frame, 12 + size);
}

/* commands */

static int in_place(const char *container, const char *file, int flags)
{
	char *path = place(container, file);
	int fd = open(path, flags | O_CLOEXEC, 0644);

	free(path);
	return fd;
}

static int make_container(const char *body)
{
	char *id = text_of(body, "id"), *image = text_of(body, "image"), *rootfs = text_of(body, "rootfs");
	char *type = text_of(body, "fstype"), *root = place(id, ""), *source;
	static const char *const mounted[] = {"/proc", "/sys", "/dev"};

	if (!pod || !*id || find(id, NULL))
		return ERROR;
	if (asprintf(&source, *type ? "/dev/%s" : "/tmp/hyper/shared/%s/%s", image, rootfs) < 0)
		return ERROR;
	mkdir(root, 0755);
	if (mount(source, root, *type ? type : NULL, *type ? 0 : MS_BIND, NULL))
		return ERROR;
	for (int i = 0; i < 3; i++) {
		char *to = place(id, mounted[i]);

		mkdir(to, 0755);
		if (mount(mounted[i], to, NULL, MS_BIND | MS_REC, NULL))
			return ERROR;
	}
	return start(id, member(body, "process"), 1);
}

static int start_pod(const char *body)
{
	char *host = text_of(body, "hostname"), *tag = text_of(body, "shareDir");

	if (pod)
		off(); /* as hyperstart does */
	if (!*host || sethostname(host, strlen(host)))
		return ERROR;
	if (*tag && mount(tag, "/tmp/hyper/shared", "9p", MS_NODEV, "trans=virtio"))
		return ERROR;
	pod = 1;
	return ACK;
}

static void read_file(const char *body)
{
	int fd = in_place(text_of(body, "container"), text_of(body, "file"), O_RDONLY);
	struct stat known;
	char *data;

	if (fd < 0 || fstat(fd, &known)) {
		say(ERROR, NULL, 0);
		return;
	}
	data = malloc(known.st_size + 1);
	say(ACK, data, read(fd, data, known.st_size));
	free(data);
	close(fd);
}

static int write_file(const char *body, size_t size)
{
	const char *data = strchr(body, '}') + 1;
	int fd = in_place(text_of(body, "container"), text_of(body, "file"), O_WRONLY | O_CREAT | O_TRUNC);

	if (fd < 0)
		return ERROR;
	send_all(fd, data, size - (data - body));
	close(fd);
	return ACK;
}

static void kill_container(const char *body)
{
	struct process *first = find(text_of(body, "container"), NULL);
	static const char none[] = "no such container";

	if (first && !kill(first->pid, number_of(body, "signal")))
		say(ACK, NULL, 0);
	else
		say(ERROR, none, sizeof(none));
}

static int with_process(uint32_t code, const char *body)
{
	struct process *self = find(text_of(body, "container"), text_of(body, "process"));
	struct winsize size = {.ws_row = number_of(body, "row"), .ws_col = number_of(body, "column")};

	if (!self)
		return ERROR;
	if (code == WINSIZE)
		return ioctl(self->out, TIOCSWINSZ, &size) ? ERROR : ACK;
	kill(-self->pid, number_of(body, "signal"));
	return ACK;
}

static void obey(uint32_t code, const char *body, size_t size)
{
	char *container = text_of(body, "container");

	if (is("no-reply") && code == STARTPOD)
		return;
	if (is("dies") && code == NEWCONTAINER)
		off();
	switch (code) {
	case GETVERSION: say_number(ACK, is("old-version") ? 1 : VERSION); break;
	case STARTPOD: say(start_pod(body), NULL, 0); break;
	case NEWCONTAINER: say(make_container(body), NULL, 0); break;
	case EXECCMD: say(find(container, NULL) ? start(container, member(body, "process"), 0) : ERROR, NULL, 0); break;
	case KILLCONTAINER: kill_container(body); break;
	case SIGNALPROCESS:
	case WINSIZE: say(with_process(code, body), NULL, 0); break;
	case READFILE: read_file(body); break;
	case WRITEFILE: say(write_file(body, size), NULL, 0); break;
	case DESTROYPOD: destroying = 1; break;
	case PING:
	case READY:
	case ONLINECPUMEM:
	case SETUPINTERFACE:
	case SETUPROUTE: say(ACK, NULL, 0); break;
	default: say(ERROR, NULL, 0);
	}
}

static void hear(void)
{
	static char frame[MAX_FRAME + 1];
	static size_t have;
	uint32_t head[2], size = 8;
	ssize_t got;

	if (have >= 8) {
		memcpy(head, frame, 8);
		size = ntohl(head[1]);
		if (size < 8 || size > MAX_FRAME)
			off();
	}
	if (size > have) {
		got = read(control, frame + have, size - have);
		if (got <= 0)
			return;
		have += got;
		say_number(NEXT, got);
	}
	memcpy(head, frame, 8);
	if (have < 8 || have < ntohl(head[1]))
		return;
	frame[have] = 0;
	obey(ntohl(head[0]), frame + 8, have - 8);
	have = 0;
}

static char input[4096];
static size_t input_size;

static size_t input_wanted(void)
{
	uint32_t length = htonl(12);

	if (input_size >= 12)
		memcpy(&length, input + 8, 4);
	if (ntohl(length) < 12 || ntohl(length) > sizeof(input))
		off(); /* as hyperstart does */
	return ntohl(length) - input_size;
}

static void use_input(void)
{
	uint64_t number;

	memcpy(&number, input, 8);
	if (input_size >= 12 && !input_wanted() && take_input(be64toh(number), input + 12, input_size - 12))
		input_size = 0;
}

static void hear_terminal(void)
{
	ssize_t got = read(terminal, input + input_size, input_wanted());

	input_size += got > 0 ? got : 0;
}

static void serve(void)
{
	struct pollfd all[2 + 3 * PROCESSES] = {{.fd = control, .events = POLLIN}, {.fd = terminal, .events = POLLIN}};
	sigset_t none;

	if (input_size >= 12 && !input_wanted())
		all[1].fd = -1;
	sigemptyset(&none);
	for (int i = 0; i < PROCESSES; i++) {
		struct process *each = processes + i;
		struct pollfd *own = all + 2 + 3 * i;

		own[0].fd = each->pid && (each->unread_size || each->input_ends) ? each->in : -1;
		own[1].fd = each->pid ? each->out : -1;
		own[2].fd = each->pid ? each->err : -1;
		own[0].events = POLLOUT;
		own[1].events = own[2].events = POLLIN;
	}
	if (ppoll(all, 2 + 3 * PROCESSES, NULL, &none) < 0)
		return;
	for (int i = 0; i < PROCESSES; i++) {
		struct pollfd *own = all + 2 + 3 * i;

		if (own[0].revents)
			pass_input(processes + i);
		if (own[1].revents)
			hand_out(processes + i, &processes[i].out, processes[i].stdio);
		if (own[2].revents)
			hand_out(processes + i, &processes[i].err, processes[i].stderr_);
	}
	if (all[1].revents)
		hear_terminal();
	if (all[0].revents)
		hear();
}

static void misbehave(void)
{
	static const char oversize[] = {0, 0, 0, ACK, 0x7f, 0, 0, 0};

	if (is("exits"))
		exit(1);
	if (is("silent"))
		for (;;)
			pause();
	if (is("garbage"))
		send_all(control, "\xde\xad\xbe\xef this is no frame", 21);
	if (is("oversize"))
		send_all(control, oversize, sizeof(oversize));
	say(READY, NULL, 0);
	if (is("deaf"))
		for (;;)
			pause();
}

static int open_port(const char *name)
{
	char file[256], known[64];
	glob_t found;
	int fd = -1;

	glob("/sys/class/virtio-ports/*/name", 0, NULL, &found);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *names = fopen(found.gl_pathv[i], "r");

		if (fscanf(names, "%63s", known) == 1 && !strcmp(known, name)) {
			sscanf(found.gl_pathv[i], "/sys/class/virtio-ports/%63[^/]", known);
			snprintf(file, sizeof(file), "/dev/%s", known);
			fd = open(file, O_RDWR | O_CLOEXEC);
		}
		fclose(names);
	}
	return fd;
}

static void ignore(int number)
{
	(void)number;
}

int main(void)
{
	static char line[4096];
	struct sigaction action = {.sa_handler = ignore};
	sigset_t child;
	char *word;

	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mkdir("/dev/pts", 0755);
	mount("devpts", "/dev/pts", "devpts", 0, "ptmxmode=0666");
	mount("tmpfs", "/run", "tmpfs", 0, NULL);
	mount("tmpfs", "/tmp", "tmpfs", 0, NULL);
	mkdir("/tmp/hyper", 0755);
	mkdir("/tmp/hyper/shared", 0755);
	if (read(open("/proc/cmdline", O_RDONLY), line, sizeof(line) - 1) > 0 && (word = strstr(line, "testagent=")))
		sscanf(word, "testagent=%63s", mode);
	printf("testagent: mode '%s'\n", mode);
	fflush(stdout);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	sigprocmask(SIG_BLOCK, &child, NULL);
	sigaction(SIGCHLD, &action, NULL);
	signal(SIGPIPE, SIG_IGN);
	control = open_port("sh.hyper.channel.0");
	terminal = open_port("sh.hyper.channel.1");
	misbehave();
	while (!destroying) {
		reap();
		use_input();
		serve();
		use_input();
	}
	say(ACK, NULL, 0);
	usleep(100000); /* for the frame to leave */
	off();
	return 0;
}

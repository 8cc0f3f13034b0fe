/* Processes in containers, and their streams. A container is a chroot. */
#include "agent.h"
#include <sys/wait.h>

struct process processes[PROCESSES];

struct process *find(const char *container, const char *id)
{
	for (struct process *each = processes; each < processes + PROCESSES; each++)
		if (each->pid && !strcmp(each->container, container) && (id ? !strcmp(each->id, id) : each->first))
			return each;
	return NULL;
}

char *place(const char *container, const char *file)
{
	char *path;

	if (asprintf(&path, "/run/%s%s", container, file) < 0)
		exit(1);
	return path;
}

static void become(struct process *self, const char *body, int in, int out, int err)
{
	const char *list = member(body, "args"), *pairs = member(body, "envs");
	char *root = place(self->container, ""), *workdir = text_of(body, "workdir");
	char **args = calloc(count(list) + 1, sizeof(char *));
	sigset_t none;

	setsid();
	dup2(in, 0), dup2(out, 1), dup2(err, 2);
	if (self->terminal)
		ioctl(0, TIOCSCTTY, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (chroot(root) || chdir(workdir))
		_exit(125);
	for (int i = 0; i < count(list); i++)
		args[i] = text(item(list, i));
	clearenv();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	for (int i = 0; i < count(pairs); i++)
		setenv(text_of(item(pairs, i), "env"), text_of(item(pairs, i), "value"), 1);
	execvp(args[0], args);
	_exit(errno == ENOENT ? 127 : 126);
}

static int open_terminal(void)
{
	int unlock = 0, fd = open("/dev/pts/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC);

	ioctl(fd, TIOCSPTLCK, &unlock);
	return fd;
}

int start(const char *container, const char *body, int first)
{
	struct process *self = processes;
	int in[2], out[2], err[2];
	char *id = text_of(body, "id");
	const char *tty = member(body, "terminal");

	while (self < processes + PROCESSES && self->pid)
		self++;
	if (self == processes + PROCESSES || !*id || !number_of(body, "stdio") || !count(member(body, "args")))
		return ERROR;
	memset(self, 0, sizeof(*self));
	snprintf(self->container, sizeof(self->container), "%s", container);
	snprintf(self->id, sizeof(self->id), "%s", id);
	self->first = first;
	self->stdio = number_of(body, "stdio");
	self->stderr_ = number_of(body, "stderr");
	self->terminal = tty && *tty == 't';
	if (!self->terminal && !self->stderr_)
		return ERROR;
	if (self->terminal) {
		in[1] = out[0] = open_terminal();
		in[0] = out[1] = err[1] = ioctl(out[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
		err[0] = -1;
	} else if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) || pipe2(err, O_CLOEXEC))
		return ERROR;
	self->in = in[1], self->out = out[0], self->err = err[0];
	fcntl(self->in, F_SETFL, O_NONBLOCK);
	self->pid = fork();
	if (!self->pid)
		become(self, body, in[0], out[1], err[1]);
	close(in[0]);
	if (!self->terminal)
		close(out[1]), close(err[1]);
	return ACK;
}

static void finish(struct process *self)
{
	char event[256];

	if (!self->exited || self->out >= 0 || self->err >= 0)
		return;
	if (self->in >= 0 && !self->terminal)
		close(self->in);
	stream(self->stdio, NULL, 0);
	snprintf(event, sizeof(event), "{\"container\":\"%s\",\"process\":\"%s\",\"event\":\"finished\",\"status\":%d}",
		 self->container, self->id, self->status);
	say(EVENT, event, strlen(event));
	self->pid = 0;
}

void reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (struct process *each = processes; each < processes + PROCESSES; each++) {
			if (each->pid != pid)
				continue;
			each->exited = 1;
			each->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
			for (struct process *other = processes; each->first && other < processes + PROCESSES; other++)
				if (other->pid && other != each && !strcmp(other->container, each->container))
					kill(other->pid, SIGKILL);
			finish(each);
		}
}

void hand_out(struct process *self, int *fd, uint64_t number)
{
	char data[4096];
	ssize_t size = read(*fd, data, sizeof(data));

	if (size > 0) {
		stream(number, data, size);
		return;
	}
	close(*fd);
	*fd = -1;
	finish(self);
}

void pass_input(struct process *self)
{
	ssize_t done = self->unread_size ? write(self->in, self->unread, self->unread_size) : 0;

	if (done < 0 && errno == EAGAIN)
		return;
	if (done > 0)
		memmove(self->unread, self->unread + done, self->unread_size -= done);
	if (done < 0 || (!self->unread_size && self->input_ends && !self->terminal)) {
		close(self->in);
		self->in = -1;
	}
}

/* 0: there is no room yet */
int take_input(uint64_t number, const char *data, size_t size)
{
	for (struct process *each = processes; each < processes + PROCESSES; each++) {
		if (!each->pid || each->stdio != number)
			continue;
		if (each->in < 0 || each->exited)
			return 1;
		if (size > UNREAD - each->unread_size && each->unread_size)
			return 0;
		each->input_ends |= !size;
		if (size > UNREAD)
			size = UNREAD;
		memcpy(each->unread + each->unread_size, data, size);
		each->unread_size += size;
		return 1;
	}
	stream(number, NULL, 0);
	return 1;
}

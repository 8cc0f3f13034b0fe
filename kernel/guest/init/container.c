/*
 * One container, run by crun. A child of ours prepares it and becomes crun, so that nothing that blocks blocks PID 1;
 * or, where namespaces of the container are kept, stays and is its parent.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define CRUN "crun", "--root", "/run/crun"

enum { NOT_STARTED = 125, PREPARATION_LIMIT_MS = 5000 };

const char *describe_status(int status)
{
	static char text[64];

	if (WIFSIGNALED(status))
		snprintf(text, sizeof(text), "killed by signal %d", WTERMSIG(status));
	else
		snprintf(text, sizeof(text), "exit status %d", WEXITSTATUS(status));
	return text;
}

/* In a child only: PID 1 reaps elsewhere. */
static bool run_crun(char *const argv[], int *status)
{
	pid_t pid = fork();

	if (!pid) {
		exec_runtime(argv);
		_exit(127);
	}
	while (pid > 0 && waitpid(pid, status, 0) < 0)
		if (errno != EINTR)
			return false;
	return pid > 0;
}

/* What a run that was killed has left, or the next one finds its name taken. */
static void forget_last_run(const struct container *container)
{
	int status;

	if (!access(text_of("/run/crun/%s", container->id), F_OK))
		run_crun((char *[]){ CRUN, "delete", "--force", container->id, NULL }, &status);
}

static volatile pid_t forward_to;

static void forward(int signal)
{
	if (forward_to > 0)
		kill(forward_to, signal);
}

static char *config_of(const struct container *container)
{
	return text_of("%s/config.json", container->folder);
}

static pid_t create(const struct container *container)
{
	char *pid_file = text_of("/run/containers/%s.pid", container->id);
	const char *text;
	int status;

	if (!run_crun((char *[]){ CRUN, "create", "--bundle", container->folder, "--config", config_of(container),
				   "--pid-file", pid_file, container->id, NULL },
		      &status) ||
	    status)
		return -1;
	text = read_text(pid_file);
	return text ? (pid_t)atoi(text) : -1;
}

/* Orphans of a container in the guest's process namespace are ours as well. */
static bool reap_until(pid_t pid, int *status)
{
	pid_t ended;

	do
		ended = waitpid(-1, status, 0);
	while (ended != pid && (ended > 0 || errno == EINTR));
	return ended == pid;
}

/* A container whose namespaces are kept: they must be bound before its program can have ended. */
static int run_with_kept_namespaces(const struct container *container)
{
	int status = NOT_STARTED << 8;
	pid_t pid;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	pid = make_folders("/run/containers") ? create(container) : -1;
	if (pid <= 0)
		return NOT_STARTED;
	forward_to = pid;
	signal(SIGTERM, forward);
	if (!bind_namespaces(container, pid) ||
	    !run_crun((char *[]){ CRUN, "start", container->id, NULL }, &status) || status) {
		forget_last_run(container);
		return NOT_STARTED;
	}
	if (!reap_until(pid, &status))
		status = NOT_STARTED << 8;
	forget_last_run(container);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void become_container(struct container *container, int prepared)
{
	if (container->starts > 1)
		forget_last_run(container);
	else if (!prepare(container))
		_exit(NOT_STARTED);
	close(prepared);
	if (keeps_namespaces(container))
		_exit(run_with_kept_namespaces(container));
	exec_runtime((char *[]){ CRUN, "run", "--bundle", container->folder, "--config", config_of(container),
				 container->id, NULL });
	say("%s: cannot run /usr/bin/crun: %s", container->name, strerror(errno));
	_exit(NOT_STARTED);
}

static pid_t fork_container(struct container *container, int prepared)
{
	pid_t pid = fork_child();

	if (pid)
		return pid;
	setsid();
	become_container(container, prepared);
	_exit(NOT_STARTED);
}

/* Returns when the container is prepared: the next one may use what this one has mounted. */
bool start_container(struct container *container)
{
	struct pollfd prepared = { .events = POLLIN };
	int ends[2];

	container->starts++;
	container->restart_at = 0;
	container->started_at = now();
	if (pipe2(ends, O_CLOEXEC)) {
		say("%s: no pipe: %s", container->name, strerror(errno));
		return false;
	}
	container->pid = fork_container(container, ends[1]);
	if (container->pid < 0)
		say("%s: cannot fork: %s", container->name, strerror(errno));
	close(ends[1]);
	prepared.fd = ends[0];
	if (container->pid > 0 && !poll(&prepared, 1, PREPARATION_LIMIT_MS))
		say("%s: its preparation takes long; going on", container->name);
	close(ends[0]);
	if (container->pid > 0)
		return true;
	container->pid = 0;
	return false;
}

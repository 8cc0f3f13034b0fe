/*
 * One container: /containers/<section>/<NNN>-<name>/ with `config.json` (OCI runtime specification, for crun) and
 * `run` (for us), which has a line `key value` for each of:
 *
 *   root PATH                           the root is used where it is, read-only
 *   overlay LOWER                       the root is LOWER with a tmpfs over it, at /run/containers/<section>/<name>/rootfs
 *   on-exit WORD                        nothing, restart, restart-on-failure or poweroff
 *   mkdir PATH                          made before the start
 *   mount TYPE SOURCE DEST OPTIONS      mounted before the start; OPTIONS may be `-`
 *   bind-ns KIND PATH                   the container's namespace of that kind is kept at PATH
 *   cgroup PATH                         made before the start, below /sys/fs/cgroup
 *
 * A container is started by a child of ours that becomes crun, so that nothing that blocks blocks PID 1.
 */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define CRUN "crun", "--root", "/run/crun"

enum { NOT_STARTED = 125, RUN_FILE_LIMIT = 1 << 20, PREPARATION_LIMIT_MS = 5000 };

static const char *const on_exit_words[] = {
	[EXIT_NOTHING] = "nothing",
	[EXIT_RESTART] = "restart",
	[EXIT_RESTART_ON_FAILURE] = "restart-on-failure",
	[EXIT_POWEROFF] = "poweroff",
};

static const char *const keys[] = { "root", "overlay", "on-exit", "mkdir", "mount", "bind-ns", "cgroup" };

/* All text of a small file, or NULL; never freed, as a container lives as long as we do. */
static char *read_text(const char *path)
{
	FILE *file = fopen(path, "re");
	char *text = NULL;
	size_t size = 0;

	if (!file)
		return NULL;
	if (getdelim(&text, &size, '\0', file) < 0 || strlen(text) > RUN_FILE_LIMIT) {
		free(text);
		text = NULL;
	}
	fclose(file);
	return text;
}

static bool known_key(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(keys[i], key))
			return true;
	return false;
}

static bool parse_on_exit(struct container *container, const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(on_exit_words); i++) {
		if (strcmp(on_exit_words[i], word))
			continue;
		container->on_exit = (enum on_exit)i;
		return true;
	}
	return false;
}

static bool add_setting(struct container *container, char *line)
{
	char *value = line;
	char *key = strsep(&value, " ");
	struct setting *more;

	if (!value || !known_key(key))
		return false;
	if (!strcmp(key, "on-exit"))
		return parse_on_exit(container, value);
	more = reallocarray(container->settings, container->setting_count + 1, sizeof(*more));
	if (!more)
		return false;
	container->settings = more;
	more[container->setting_count++] = (struct setting){ key, value };
	return true;
}

static void parse_run_file(struct container *container)
{
	char path[4096];
	char *rest;

	snprintf(path, sizeof(path), "%s/run", container->folder);
	rest = read_text(path);
	if (!rest) {
		say("%s cannot be read: %s", path, strerror(errno));
		return;
	}
	for (char *line = strsep(&rest, "\n"); line; line = strsep(&rest, "\n"))
		if (*line && !add_setting(container, line))
			say("%s: not understood: %s", path, line);
}

static int is_container(const struct dirent *entry)
{
	const char *dash = strchr(entry->d_name, '-');

	return dash && dash[1];
}

struct section read_section(const char *name)
{
	struct section section = { NULL, 0 };
	struct dirent **entries = NULL;
	char folder[4096];
	int count;

	snprintf(folder, sizeof(folder), "/containers/%s", name);
	count = scandir(folder, &entries, is_container, alphasort);
	if (count > 0)
		section.containers = calloc((size_t)count, sizeof(struct container));
	for (int i = 0; i < count && section.containers; i++) {
		struct container *each = &section.containers[section.count++];

		each->section = strdup(name);
		each->name = strdup(strchr(entries[i]->d_name, '-') + 1);
		if (asprintf(&each->folder, "%s/%s", folder, entries[i]->d_name) < 0)
			each->folder = NULL;
		if (!each->section || !each->name || !each->folder) {
			say("%s: no memory for %s", folder, entries[i]->d_name);
			section.count--;
			continue;
		}
		parse_run_file(each);
	}
	return section;
}

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

static bool fail(const struct container *container, const char *what, const char *path)
{
	say("%s: %s %s: %s", container->name, what, path, strerror(errno));
	return false;
}

static bool apply_mount(const struct container *container, const char *value)
{
	char *words = strdup(value);
	char *rest = words;
	char *type = strsep(&rest, " ");
	char *source = strsep(&rest, " ");
	char *target = strsep(&rest, " ");

	if (!target || !rest) {
		errno = EINVAL;
		return fail(container, "cannot understand mount", value);
	}
	if (!make_folders(target) || !mount_with_options(type, source, target, rest))
		return fail(container, "cannot mount", target);
	free(words);
	return true;
}

static bool apply_overlay(const struct container *container, const char *lower)
{
	char base[1024], upper[1100], work[1100], root[1100], options[8192];

	snprintf(base, sizeof(base), "/run/containers/%s/%s", container->section, container->name);
	snprintf(upper, sizeof(upper), "%s/upper", base);
	snprintf(work, sizeof(work), "%s/work", base);
	snprintf(root, sizeof(root), "%s/rootfs", base);
	snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);
	if (!make_folders(upper) || !make_folders(work) || !make_folders(root))
		return fail(container, "cannot make", base);
	if (mount("overlay", root, "overlay", 0, options))
		return fail(container, "cannot mount overlay at", root);
	return true;
}

static bool apply_cgroup(const struct container *container, const char *path)
{
	char folder[4096];

	snprintf(folder, sizeof(folder), "/sys/fs/cgroup/%s", path);
	return make_folders(folder) || fail(container, "cannot make cgroup", folder);
}

static bool apply_mkdir(const struct container *container, const char *path)
{
	return make_folders(path) || fail(container, "cannot make", path);
}

static const struct {
	const char *key;
	bool (*apply)(const struct container *container, const char *value);
} preparations[] = {
	{ "mount", apply_mount },
	{ "mkdir", apply_mkdir },
	{ "cgroup", apply_cgroup },
	{ "overlay", apply_overlay },
};

/* In the order of the lines: what is mounted may want a folder, and a folder may be wanted inside of a mount. */
static bool prepare(const struct container *container)
{
	for (size_t i = 0; i < container->setting_count; i++)
		for (size_t j = 0; j < ARRAY_SIZE(preparations); j++)
			if (!strcmp(container->settings[i].key, preparations[j].key) &&
			    !preparations[j].apply(container, container->settings[i].value))
				return false;
	return true;
}

/* What a run that was killed has left, or the next one finds its name taken. */
static void forget_last_run(const struct container *container)
{
	char folder[1024];
	int status;

	snprintf(folder, sizeof(folder), "/run/crun/%s", container->name);
	if (!access(folder, F_OK))
		run_crun((char *[]){ CRUN, "delete", "--force", container->name, NULL }, &status);
}

static bool has_setting(const struct container *container, const char *key)
{
	for (size_t i = 0; i < container->setting_count; i++)
		if (!strcmp(container->settings[i].key, key))
			return true;
	return false;
}

static bool bind_namespace(const struct container *container, pid_t pid, const char *value)
{
	const char *path = strchr(value, ' ');
	char source[256], folder[4096];
	int fd;

	if (!path || !strchr(path, '/')) {
		errno = EINVAL;
		return fail(container, "cannot understand bind-ns", value);
	}
	path++;
	snprintf(source, sizeof(source), "/proc/%d/ns/%.*s", pid, (int)(path - 1 - value), value);
	snprintf(folder, sizeof(folder), "%.*s", (int)(strrchr(path, '/') - path), path);
	fd = make_folders(folder) ? open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0444) : -1;
	if (fd < 0)
		return fail(container, "cannot make", path);
	close(fd);
	umount2(path, MNT_DETACH); /* the namespace of the last run, after a restart */
	if (mount(source, path, NULL, MS_BIND, NULL))
		return fail(container, "cannot bind namespace at", path);
	return true;
}

static bool bind_namespaces(const struct container *container, pid_t pid)
{
	for (size_t i = 0; i < container->setting_count; i++)
		if (!strcmp(container->settings[i].key, "bind-ns") &&
		    !bind_namespace(container, pid, container->settings[i].value))
			return false;
	return true;
}

static volatile pid_t forward_to;

static void forward(int signal)
{
	if (forward_to > 0)
		kill(forward_to, signal);
}

static pid_t create(struct container *container, const char *pid_file)
{
	char config[4096];
	char *text;
	int status;

	snprintf(config, sizeof(config), "%s/config.json", container->folder);
	if (!run_crun((char *[]){ CRUN, "create", "--bundle", container->folder, "--config", config, "--pid-file",
				     (char *)pid_file, container->name, NULL },
			 &status) ||
	    status)
		return -1;
	text = read_text(pid_file);
	return text ? (pid_t)atoi(text) : -1;
}

/* A container whose namespaces are kept: they must be bound before its program can have ended. */
static int run_with_kept_namespaces(struct container *container)
{
	char pid_file[1024];
	int status = NOT_STARTED << 8;
	pid_t pid;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	snprintf(pid_file, sizeof(pid_file), "/run/containers/%s-%s.pid", container->section, container->name);
	pid = make_folders("/run/containers") ? create(container, pid_file) : -1;
	if (pid <= 0)
		return NOT_STARTED;
	forward_to = pid;
	signal(SIGTERM, forward);
	if (!bind_namespaces(container, pid) ||
	    !run_crun((char *[]){ CRUN, "start", container->name, NULL }, &status) || status) {
		forget_last_run(container);
		return NOT_STARTED;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	forget_last_run(container);
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

static void become_container(struct container *container, int prepared)
{
	char config[4096];

	if (container->starts > 1)
		forget_last_run(container);
	else if (!prepare(container))
		_exit(NOT_STARTED);
	close(prepared);
	if (has_setting(container, "bind-ns"))
		_exit(run_with_kept_namespaces(container));
	snprintf(config, sizeof(config), "%s/config.json", container->folder);
	exec_runtime((char *[]){ CRUN, "run", "--bundle", container->folder, "--config", config, container->name, NULL });
	say("%s: cannot run /usr/bin/crun: %s", container->name, strerror(errno));
	_exit(NOT_STARTED);
}

static pid_t fork_container(struct container *container, int prepared)
{
	sigset_t none;
	pid_t pid = fork();

	if (pid)
		return pid;
	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
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

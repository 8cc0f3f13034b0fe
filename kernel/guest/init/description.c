/*
 * What /containers/<section>/<NNN>-<name>/ says of a container: `config.json` (OCI runtime specification, for crun) and
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
 * A section has its containers by number, and two sections may each have one of the same name.
 */
#include "init.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_LIMIT = 1 << 20 };

static const char *const on_exit_words[] = {
	[EXIT_NOTHING] = "nothing",
	[EXIT_RESTART] = "restart",
	[EXIT_RESTART_ON_FAILURE] = "restart-on-failure",
	[EXIT_POWEROFF] = "poweroff",
};

static const char *const keys[] = { "root", "overlay", "on-exit", "mkdir", "mount", "bind-ns", "cgroup" };

/* Never freed: whoever asks lives as long as we do, or is a child that becomes another program or ends. */
char *text_of(const char *format, ...)
{
	va_list arguments;
	char *text;

	va_start(arguments, format);
	if (vasprintf(&text, format, arguments) < 0)
		abort();
	va_end(arguments);
	return text;
}

static char *read_all(int fd)
{
	struct stat found;
	char *text;

	if (fstat(fd, &found))
		return NULL;
	if (found.st_size > TEXT_LIMIT) {
		errno = EFBIG;
		return NULL;
	}
	text = calloc(1, (size_t)found.st_size + 1);
	if (text && read(fd, text, (size_t)found.st_size) == found.st_size)
		return text;
	free(text);
	errno = text ? EIO : ENOMEM;
	return NULL;
}

/* All text of a small regular file, or NULL and errno; never freed. */
char *read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char *text;
	int error;

	if (fd < 0)
		return NULL;
	text = read_all(fd);
	error = errno;
	close(fd);
	errno = error;
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
	const char *path = text_of("%s/run", container->folder);
	char *rest = read_text(path);

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

static void describe(struct container *container, const char *section, const char *entry)
{
	container->section = section;
	container->name = text_of("%s", strchr(entry, '-') + 1);
	container->id = text_of("%s-%s", section, container->name);
	container->folder = text_of("/containers/%s/%s", section, entry);
	parse_run_file(container);
}

struct section read_section(const char *name)
{
	struct section section = { NULL, 0 };
	struct dirent **entries = NULL;
	int count = scandir(text_of("/containers/%s", name), &entries, is_container, versionsort);

	if (count > 0)
		section.containers = calloc((size_t)count, sizeof(struct container));
	for (int i = 0; i < count && section.containers; i++)
		describe(&section.containers[section.count++], name, entries[i]->d_name);
	return section;
}

/* What a container needs before it starts, and the namespaces that are kept of it, as its `run` file says. */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

static bool fail(const struct container *container, const char *what, const char *path)
{
	say("%s: %s %.500s: %s", container->name, what, path, strerror(errno));
	return false;
}

static bool apply_mount(const struct container *container, const char *value)
{
	char *rest = text_of("%s", value);
	char *type = strsep(&rest, " ");
	char *source = strsep(&rest, " ");
	char *target = strsep(&rest, " ");

	if (!target || !rest) {
		errno = EINVAL;
		return fail(container, "cannot understand mount", value);
	}
	if (!make_folders(target) || !mount_with_options(type, source, target, rest))
		return fail(container, "cannot mount", target);
	return true;
}

static bool apply_overlay(const struct container *container, const char *lower)
{
	const char *base = text_of("/run/containers/%s/%s", container->section, container->name);
	const char *upper = text_of("%s/upper", base);
	const char *work = text_of("%s/work", base);
	const char *root = text_of("%s/rootfs", base);
	const char *options = text_of("lowerdir=%s,upperdir=%s,workdir=%s", lower, upper, work);

	if (!make_folders(upper) || !make_folders(work) || !make_folders(root))
		return fail(container, "cannot make", base);
	if (mount("overlay", root, "overlay", 0, options))
		return fail(container, "cannot mount overlay at", root);
	return true;
}

static bool apply_cgroup(const struct container *container, const char *path)
{
	const char *folder = text_of("/sys/fs/cgroup/%s", path);

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
bool prepare(const struct container *container)
{
	for (size_t i = 0; i < container->setting_count; i++)
		for (size_t j = 0; j < ARRAY_SIZE(preparations); j++)
			if (!strcmp(container->settings[i].key, preparations[j].key) &&
			    !preparations[j].apply(container, container->settings[i].value))
				return false;
	return true;
}

bool keeps_namespaces(const struct container *container)
{
	for (size_t i = 0; i < container->setting_count; i++)
		if (!strcmp(container->settings[i].key, "bind-ns"))
			return true;
	return false;
}

static bool bind_namespace(const struct container *container, pid_t pid, const char *value)
{
	const char *path = strchr(value, ' ');
	const char *source, *folder;
	int fd;

	if (!path || !strchr(path, '/')) {
		errno = EINVAL;
		return fail(container, "cannot understand bind-ns", value);
	}
	path++;
	source = text_of("/proc/%d/ns/%.*s", pid, (int)(path - 1 - value), value);
	folder = text_of("%.*s", (int)(strrchr(path, '/') - path), path);
	fd = make_folders(folder) ? open(path, O_CREAT | O_RDONLY | O_CLOEXEC, 0444) : -1;
	if (fd < 0)
		return fail(container, "cannot make", path);
	close(fd);
	umount2(path, MNT_DETACH); /* the namespace of the last run, after a restart */
	if (mount(source, path, NULL, MS_BIND, NULL))
		return fail(container, "cannot bind namespace at", path);
	return true;
}

bool bind_namespaces(const struct container *container, pid_t pid)
{
	for (size_t i = 0; i < container->setting_count; i++)
		if (!strcmp(container->settings[i].key, "bind-ns") &&
		    !bind_namespace(container, pid, container->settings[i].value))
			return false;
	return true;
}

/*
 * The file systems that a guest begins with.
 *
 * The initramfs itself cannot be moved away from by pivot_root(2), which crun uses to enter a container. So it is
 * bound onto itself, and that mount is moved over `/`: nothing is copied, and the new root is an ordinary mount.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

struct option {
	const char *name;
	unsigned long set;
	unsigned long clear;
};

static const struct option options_known[] = {
	{ "defaults", 0, 0 },
	{ "ro", MS_RDONLY, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "nosuid", MS_NOSUID, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nodev", MS_NODEV, 0 },
	{ "dev", 0, MS_NODEV },
	{ "noexec", MS_NOEXEC, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "sync", MS_SYNCHRONOUS, 0 },
	{ "async", 0, MS_SYNCHRONOUS },
	{ "dirsync", MS_DIRSYNC, 0 },
	{ "noatime", MS_NOATIME, 0 },
	{ "atime", 0, MS_NOATIME },
	{ "nodiratime", MS_NODIRATIME, 0 },
	{ "diratime", 0, MS_NODIRATIME },
	{ "relatime", MS_RELATIME, 0 },
	{ "norelatime", 0, MS_RELATIME },
	{ "strictatime", MS_STRICTATIME, 0 },
	{ "nostrictatime", 0, MS_STRICTATIME },
	{ "remount", MS_REMOUNT, 0 },
	{ "bind", MS_BIND, 0 },
	{ "rbind", MS_BIND | MS_REC, 0 },
	{ "shared", MS_SHARED, 0 },
	{ "rshared", MS_SHARED | MS_REC, 0 },
	{ "slave", MS_SLAVE, 0 },
	{ "rslave", MS_SLAVE | MS_REC, 0 },
	{ "private", MS_PRIVATE, 0 },
	{ "rprivate", MS_PRIVATE | MS_REC, 0 },
	{ "unbindable", MS_UNBINDABLE, 0 },
	{ "runbindable", MS_UNBINDABLE | MS_REC, 0 },
};

static const unsigned long PROPAGATION = MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE;

/* What `mount -o` would do: words of the kernel become flags, all others are the file system's own. */
struct parsed {
	unsigned long flags;
	unsigned long propagation;
	char data[2048];
};

static const struct option *find_option(const char *word)
{
	for (size_t i = 0; i < ARRAY_SIZE(options_known); i++)
		if (!strcmp(options_known[i].name, word))
			return &options_known[i];
	return NULL;
}

static void add_option(struct parsed *parsed, const char *word)
{
	const struct option *option = find_option(word);
	size_t length = strlen(parsed->data);

	if (!option) {
		snprintf(parsed->data + length, sizeof(parsed->data) - length, "%s%s", length ? "," : "", word);
	} else if (option->set & PROPAGATION) {
		parsed->propagation = option->set;
	} else {
		parsed->flags = (parsed->flags & ~option->clear) | option->set;
	}
}

static bool parse_options(struct parsed *parsed, const char *options)
{
	char *words = strdup(options);
	char *rest = words;

	*parsed = (struct parsed){ 0 };
	if (!words || strlen(options) >= sizeof(parsed->data)) {
		free(words);
		errno = E2BIG;
		return false;
	}
	for (char *word = strsep(&rest, ","); word; word = strsep(&rest, ","))
		if (*word && strcmp(word, "-"))
			add_option(parsed, word);
	free(words);
	return true;
}

/* A bind takes no other flags at first: they need a second call. */
static bool bind(const char *source, const char *target, unsigned long flags)
{
	unsigned long others = flags & ~(unsigned long)(MS_BIND | MS_REC);

	if (mount(source, target, NULL, flags & (MS_BIND | MS_REC), NULL))
		return false;
	return !others || !mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | others, NULL);
}

bool mount_with_options(const char *type, const char *source, const char *target, const char *options)
{
	struct parsed parsed;
	bool done;

	if (!parse_options(&parsed, options))
		return false;
	if (!strcmp(type, "bind"))
		parsed.flags |= MS_BIND;
	if ((parsed.flags & MS_BIND) && !(parsed.flags & MS_REMOUNT))
		done = bind(source, target, parsed.flags);
	else
		done = !mount(source, target, type, parsed.flags, parsed.data);
	if (done && parsed.propagation)
		done = !mount(NULL, target, NULL, parsed.propagation, NULL);
	return done;
}

static bool make_folder(const char *path)
{
	struct stat found;

	if (!mkdir(path, 0755))
		return true;
	return (errno == EEXIST || errno == EROFS) && !stat(path, &found) && S_ISDIR(found.st_mode);
}

bool make_folders(const char *path)
{
	char prefix[4096];
	size_t length = strlen(path);

	if (length >= sizeof(prefix)) {
		errno = ENAMETOOLONG;
		return false;
	}
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(prefix, path, i);
		prefix[i] = '\0';
		if (!make_folder(prefix))
			return false;
	}
	return true;
}

void make_root_movable(void)
{
	struct statfs root;

	if (statfs("/", &root) || (root.f_type != RAMFS_MAGIC && root.f_type != TMPFS_MAGIC))
		return;
	if (mount("/", "/mnt", NULL, MS_BIND, NULL) || chdir("/mnt") || mount(".", "/", NULL, MS_MOVE, NULL) ||
	    chroot(".") || chdir("/"))
		say("the root cannot be moved: %s", strerror(errno));
}

struct file_system {
	const char *type;
	const char *target;
	const char *options;
};

static const struct file_system file_systems[] = {
	{ "proc", "/proc", "nosuid,nodev,noexec" },
	{ "sysfs", "/sys", "nosuid,nodev,noexec" },
	{ "devtmpfs", "/dev", "nosuid,noexec,mode=0755" },
	{ "devpts", "/dev/pts", "nosuid,noexec,gid=5,mode=0620,ptmxmode=0666" },
	{ "tmpfs", "/dev/shm", "nosuid,nodev,mode=1777" },
	{ "mqueue", "/dev/mqueue", "nosuid,nodev,noexec" },
	{ "tmpfs", "/run", "nosuid,nodev,mode=0755" },
	{ "tmpfs", "/tmp", "nosuid,nodev,mode=1777" },
	{ "tmpfs", "/var", "nosuid,nodev,mode=0755" },
	{ "cgroup2", "/sys/fs/cgroup", "nosuid,nodev,noexec,nsdelegate" },
};

static const char *const links[][2] = {
	{ "/proc/self/fd", "/dev/fd" },
	{ "/proc/self/fd/0", "/dev/stdin" },
	{ "/proc/self/fd/1", "/dev/stdout" },
	{ "/proc/self/fd/2", "/dev/stderr" },
};

static void mount_one(const struct file_system *each)
{
	/* EBUSY: the kernel has mounted /dev already */
	if (make_folders(each->target) && mount_with_options(each->type, each->type, each->target, each->options))
		return;
	if (errno != EBUSY)
		say("%s is not mounted: %s", each->target, strerror(errno));
}

void mount_file_systems(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(file_systems); i++)
		mount_one(&file_systems[i]);
	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i][0], links[i][1]) && errno != EEXIST)
			say("%s is not there: %s", links[i][1], strerror(errno));
	/* what a container mounts for others is seen by them only if the root is shared */
	if (mount(NULL, "/", NULL, MS_SHARED | MS_REC, NULL))
		say("the root is not shared: %s", strerror(errno));
}

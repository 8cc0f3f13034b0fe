/*
 * crun, ready to be run often. It refuses to run from a file that a container could write to through /proc/self/exe:
 * each start copies it into a sealed memory file and runs that. Here one such file is made for all of them. On a
 * read-only file system there is nothing to protect.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define CRUN "/usr/bin/crun"

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static int sealed = -1;

static bool copy(int from, int to, off_t size)
{
	while (size > 0) {
		ssize_t copied = sendfile(to, from, NULL, (size_t)size);

		if (copied <= 0)
			return false;
		size -= copied;
	}
	return true;
}

static int seal(int file, off_t size)
{
	int memory = memfd_create("crun", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (memory < 0)
		return -1;
	if (copy(file, memory, size) && !fcntl(memory, F_ADD_SEALS, SEALS))
		return memory;
	say("%s cannot be copied: %s", CRUN, strerror(errno));
	close(memory);
	return -1;
}

void load_runtime(void)
{
	struct statvfs system;
	struct stat found;
	int file = open(CRUN, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return; /* each container will say so */
	if (!fstatvfs(file, &system) && !(system.f_flag & ST_RDONLY) && !fstat(file, &found))
		sealed = seal(file, found.st_size);
	close(file);
}

/* Returns only if it fails. Without a sealed copy crun makes its own. */
void exec_runtime(char *const argv[])
{
	if (sealed >= 0)
		fexecve(sealed, argv, environ);
	execv(CRUN, argv);
}

/* Lets one call that changes a file fail, as on a disk that cannot write. To be preloaded (LD_PRELOAD).
 *
 * FAULT_BELOW   the folder whose files count, with a slash at its end
 * FAULT_AT      the number of the call that fails with EIO; 0: none
 * FAULT_COUNT   a file that says, as a native int, how many calls there were
 * FAULT_FILE    a file of which nothing can be read
 *
 * It acts in the process that was started with it, and not in those that this one starts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static const char *below, *unreadable;
static int at, counter = -1;
static pid_t process;
static atomic_int calls;

__attribute__((constructor)) static void start(void)
{
    const char *count = getenv("FAULT_COUNT");
    below = getenv("FAULT_BELOW");
    unreadable = getenv("FAULT_FILE");
    at = getenv("FAULT_AT") ? atoi(getenv("FAULT_AT")) : 0;
    process = getpid();
    if (count)
        counter = syscall(SYS_openat, AT_FDCWD, count, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    unsetenv("LD_PRELOAD");
}

static int fails(const char *path)
{
    int now;
    if (!below || !path || getpid() != process || strncmp(path, below, strlen(below)))
        return 0;
    now = atomic_fetch_add(&calls, 1) + 1;
    if (counter >= 0)
        syscall(SYS_pwrite64, counter, &now, sizeof now, 0L);
    if (now != at)
        return 0;
    errno = EIO;
    return 1;
}

static const char *name_of(int descriptor, char *name, size_t size)
{
    char link[40] = "/proc/self/fd/", digits[16];
    char *end = link + strlen(link);
    ssize_t length;
    int n = 0;
    if (descriptor < 0)
        return NULL;
    do {
        digits[n++] = '0' + descriptor % 10;
    } while (descriptor /= 10);
    while (n)
        *end++ = digits[--n];
    *end = 0;
    length = readlink(link, name, size - 1);
    if (length < 0)
        return NULL;
    name[length] = 0;
    return name;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define BY_NAME(result, function, types, names, path)  \
    result function types                              \
    {                                                  \
        return fails(path) ? -1 : REAL(function) names; \
    }
#define BY_DESCRIPTOR(result, function, types, names)                                    \
    result function types                                                                \
    {                                                                                    \
        char name[4200];                                                                 \
        return fails(name_of(file, name, sizeof name)) ? -1 : REAL(function) names; \
    }

BY_NAME(int, rename, (const char *from, const char *to), (from, to), from)
BY_NAME(int, renameat2, (int a, const char *from, int b, const char *to, unsigned how), (a, from, b, to, how), from)
BY_NAME(int, unlink, (const char *path), (path), path)
BY_NAME(int, mkdir, (const char *path, mode_t mode), (path, mode), path)
BY_NAME(int, rmdir, (const char *path), (path), path)
BY_NAME(int, chmod, (const char *path, mode_t mode), (path, mode), path)
BY_NAME(int, link, (const char *from, const char *to), (from, to), to)
BY_NAME(int, symlink, (const char *target, const char *path), (target, path), path)
BY_DESCRIPTOR(ssize_t, write, (int file, const void *data, size_t size), (file, data, size))
BY_DESCRIPTOR(ssize_t, pwrite64, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
BY_DESCRIPTOR(int, fsync, (int file), (file))
BY_DESCRIPTOR(int, fdatasync, (int file), (file))
BY_DESCRIPTOR(int, syncfs, (int file), (file))
BY_DESCRIPTOR(int, ftruncate64, (int file, off64_t size), (file, size))
BY_DESCRIPTOR(int, fchmod, (int file, mode_t mode), (file, mode))
BY_DESCRIPTOR(int, futimens, (int file, const struct timespec times[2]), (file, times))

int open64(const char *path, int flags, ...)
{
    mode_t mode;
    va_list more;
    va_start(more, flags);
    mode = flags & O_CREAT ? va_arg(more, mode_t) : 0;
    va_end(more);
    if (flags & O_CREAT && fails(path))
        return -1;
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t read(int file, void *data, size_t size)
{
    char name[4200];
    if (unreadable && name_of(file, name, sizeof name) && !strcmp(name, unreadable)) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_read, file, data, size);
}

/*
 * The way out. Each part of it has a limit, so that no container and no device can keep the machine up:
 * onshutdown 10 s in all, services 3 s from SIGTERM to SIGKILL, file systems 5 s.
 */
#include "init.h"

#include <fcntl.h>
#include <mntent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <unistd.h>

static const double ONSHUTDOWN_LIMIT = 10, TERM_LIMIT = 3, KILL_LIMIT = 1, SYNC_LIMIT = 5;

enum { MOUNTS_LIMIT = 1024 };

static void run_onshutdown(struct section *onshutdown)
{
	double deadline = now() + ONSHUTDOWN_LIMIT;

	for (size_t i = 0; i < onshutdown->count; i++) {
		struct container *each = &onshutdown->containers[i];

		say("onshutdown %s", each->name);
		if (!start_container(each))
			continue;
		while (each->pid && now() < deadline)
			wait_until(deadline);
		if (each->pid) {
			say("onshutdown %s: takes too long", each->name);
			return;
		}
		if (each->status)
			say("onshutdown %s: %s", each->name, describe_status(each->status));
	}
}

static size_t count_running(const struct section *services)
{
	size_t count = 0;

	for (size_t i = 0; i < services->count; i++)
		count += services->containers[i].pid != 0;
	return count;
}

static void stop_services(struct section *services)
{
	double deadline = now() + TERM_LIMIT;

	for (size_t i = 0; i < services->count; i++)
		if (services->containers[i].pid)
			kill(services->containers[i].pid, SIGTERM); /* crun passes it on */
	while (count_running(services) && now() < deadline)
		wait_until(deadline);
	kill(-1, SIGKILL);
	deadline = now() + KILL_LIMIT;
	while (count_running(services) && now() < deadline)
		wait_until(deadline);
}

/* Last mounted first; what cannot be unmounted (the root) becomes read-only, which writes it out as well. */
static void unmount_devices(void)
{
	char *targets[MOUNTS_LIMIT];
	size_t count = 0;
	FILE *mounts = setmntent("/proc/self/mounts", "re");

	if (!mounts)
		return;
	for (struct mntent *each = getmntent(mounts); each && count < MOUNTS_LIMIT; each = getmntent(mounts))
		if (!strncmp(each->mnt_fsname, "/dev/", 5))
			targets[count++] = strdup(each->mnt_dir);
	endmntent(mounts);
	while (count-- > 0)
		if (targets[count] && umount(targets[count]))
			mount(NULL, targets[count], NULL, MS_REMOUNT | MS_RDONLY, NULL);
}

/* In a child, because a device that is gone can block both calls for ever. */
static void write_out(void)
{
	double deadline = now() + SYNC_LIMIT;
	int ready[2];
	char byte;
	pid_t writer;

	if (pipe2(ready, O_CLOEXEC))
		return;
	writer = fork_child();
	if (!writer) {
		close(ready[0]);
		sync();
		unmount_devices();
		_exit(0);
	}
	close(ready[1]);
	fcntl(ready[0], F_SETFL, O_NONBLOCK);
	while (writer > 0 && read(ready[0], &byte, 1) != 0 && now() < deadline)
		wait_until(deadline);
	close(ready[0]);
}

void stop_everything(struct section *onshutdown, struct section *services)
{
	run_onshutdown(onshutdown);
	stop_services(services);
	write_out();
}

/* Without a keyboard controller (microvm) the kernel would look for one for ever: a triple fault ends the machine. */
static void choose_reset(void)
{
	int fd;

	if (!access("/sys/devices/platform/i8042", F_OK))
		return;
	fd = open("/sys/kernel/reboot/type", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, "triple", 6) != 6)
		say("the reset of the machine is not a triple fault");
	close(fd);
}

void end_machine(enum request request)
{
	bool acpi = !access("/sys/firmware/acpi", F_OK);

	say(request == REQUEST_REBOOT ? "reboot" : "power off");
	if (acpi && request != REQUEST_REBOOT)
		reboot(RB_POWER_OFF);
	if (!acpi)
		choose_reset();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

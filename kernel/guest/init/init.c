/*
 * PID 1 of the guest.
 *
 * Mounts what a guest needs, runs the `onboot` containers one after the other, starts the `services`, and then waits:
 * it reaps, restarts services as their descriptions say, and ends the machine when asked to. It never exits.
 *
 *   SIGTERM, SIGPWR, SIGUSR1, SIGUSR2   power off (busybox's poweroff and halt send the last two)
 *   SIGINT                              reboot: what the kernel sends for Ctrl-Alt-Del
 *   SIGIO                               power off, if it was for the power button
 *
 * Called by any other process, as `poweroff`, `halt` or `reboot`, it asks PID 1 for that.
 */
#include "init.h"

#include <errno.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static const int signals[] = { SIGCHLD, SIGTERM, SIGINT, SIGPWR, SIGUSR1, SIGUSR2, SIGHUP, SIGIO };

/* A service that lived shorter than STEADY is restarted after a delay that doubles each time. */
static const double STEADY = 10, FIRST_DELAY = 0.25, LONGEST_DELAY = 30, FOREVER = 1e9;

static struct section onboot, services, onshutdown;
static enum request request;
static bool stopping;

enum request requested(void)
{
	return request;
}

static sigset_t signal_set(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		sigaddset(&set, signals[i]);
	return set;
}

static void crashed(int signal)
{
	static const char text[] = "init: panic: PID 1 made an error; ending the machine\n";

	(void)signal;
	say_text(text);
	reboot(RB_AUTOBOOT);
	_exit(1);
}

static void handle_crashes(void (*handler)(int signal))
{
	static const int fatal[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };
	struct sigaction action = { .sa_handler = handler, .sa_flags = SA_RESETHAND };

	for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
		sigaction(fatal[i], &action, NULL);
}

static void set_up_signals(void)
{
	sigset_t set = signal_set();

	sigprocmask(SIG_BLOCK, &set, NULL);
	handle_crashes(crashed);
	reboot(RB_DISABLE_CAD);
}

pid_t fork_child(void)
{
	sigset_t none;
	pid_t pid = fork();

	if (pid)
		return pid;
	handle_crashes(SIG_DFL); /* its crash is not the machine's */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	return 0;
}

static bool wants_restart(const struct container *service)
{
	if (service->on_exit == EXIT_RESTART)
		return true;
	return service->on_exit == EXIT_RESTART_ON_FAILURE && service->status != 0;
}

static void plan_restart(struct container *service)
{
	bool steady = now() - service->started_at >= STEADY;

	service->delay = steady || service->delay <= 0 ? FIRST_DELAY : service->delay * 2;
	if (service->delay > LONGEST_DELAY)
		service->delay = LONGEST_DELAY;
	service->restart_at = now() + service->delay;
	say("service %s: %s; starting again in %.2f s", service->name, describe_status(service->status),
	    service->delay);
}

static void service_ended(struct container *service)
{
	if (stopping || request) {
		say("service %s: %s", service->name, describe_status(service->status));
	} else if (wants_restart(service)) {
		plan_restart(service);
	} else if (service->on_exit == EXIT_POWEROFF) {
		say("service %s: %s; powering off", service->name, describe_status(service->status));
		request = REQUEST_POWEROFF;
	} else {
		say("service %s: %s", service->name, describe_status(service->status));
	}
}

static struct container *find_running(struct section *section, pid_t pid)
{
	for (size_t i = 0; i < section->count; i++)
		if (section->containers[i].pid == pid)
			return &section->containers[i];
	return NULL;
}

static void reap(pid_t pid, int status)
{
	struct section *all[] = { &onboot, &services, &onshutdown };

	for (size_t i = 0; i < ARRAY_SIZE(all); i++) {
		struct container *found = find_running(all[i], pid);

		if (!found)
			continue;
		found->pid = 0;
		found->status = status;
		if (all[i] == &services)
			service_ended(found);
		return;
	}
}

static void reap_all(void)
{
	int status;

	for (pid_t pid = waitpid(-1, &status, WNOHANG); pid > 0; pid = waitpid(-1, &status, WNOHANG))
		reap(pid, status);
}

static void note_button(void)
{
	if (!power_button_pressed())
		return;
	request = REQUEST_POWEROFF;
	say("power button: powering off");
}

static void note_request(int signal)
{
	if (signal == SIGCHLD || signal == SIGHUP || request)
		return;
	if (signal == SIGIO) {
		note_button();
		return;
	}
	request = signal == SIGINT ? REQUEST_REBOOT : REQUEST_POWEROFF;
	say("signal %d: %s", signal, request == REQUEST_REBOOT ? "rebooting" : "powering off");
}

void wait_until(double deadline)
{
	sigset_t set = signal_set();
	double left = deadline - now();
	struct timespec time = { 0, 0 };
	int signal;

	if (left > 0) {
		time.tv_sec = (time_t)left;
		time.tv_nsec = (long)((left - (double)time.tv_sec) * 1e9);
	}
	signal = sigtimedwait(&set, NULL, &time);
	if (signal > 0)
		note_request(signal);
	reap_all();
}

/* Whether all of onboot succeeded. */
static bool run_onboot(void)
{
	for (size_t i = 0; i < onboot.count && !request; i++) {
		struct container *each = &onboot.containers[i];

		say("onboot %s", each->name);
		if (!start_container(each))
			return false;
		while (each->pid && !request)
			wait_until(now() + FOREVER);
		if (request)
			return true;
		if (each->status) {
			say("panic: onboot %s failed: %s; powering off", each->name, describe_status(each->status));
			return false;
		}
	}
	return true;
}

static void start_service(struct container *service)
{
	say("service %s", service->name);
	if (!start_container(service)) {
		service->status = EXIT_FAILURE << 8;
		service_ended(service);
	}
}

static double start_due_services(void)
{
	double next = now() + FOREVER;

	for (size_t i = 0; i < services.count; i++) {
		struct container *each = &services.containers[i];

		if (each->restart_at > 0 && each->restart_at <= now())
			start_service(each);
		if (each->restart_at > 0 && each->restart_at < next)
			next = each->restart_at;
	}
	return next;
}

static void run_services(void)
{
	for (size_t i = 0; i < services.count; i++)
		start_service(&services.containers[i]);
	say("services started");
	while (!request) {
		double next = start_due_services();

		if (!request)
			wait_until(next);
	}
}

static void set_host_name(void)
{
	char name[65] = "guest";
	FILE *file = fopen("/etc/hostname", "re");

	if (file) {
		if (fscanf(file, "%64s", name) != 1)
			say("/etc/hostname is empty");
		fclose(file);
	}
	if (sethostname(name, strlen(name)))
		say("the host name is not set: %s", strerror(errno));
}

static void raise_loopback(void)
{
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &loopback))
		say("the loopback interface is down: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

static int ask_init(const char *name)
{
	const char *slash = strrchr(name, '/');

	if (slash)
		name = slash + 1;
	if (strcmp(name, "poweroff") && strcmp(name, "halt") && strcmp(name, "reboot")) {
		fprintf(stderr, "%s: not PID 1; as poweroff, halt or reboot it asks PID 1 for that\n", name);
		return 2;
	}
	if (kill(1, strcmp(name, "reboot") ? SIGTERM : SIGINT)) {
		perror(name);
		return 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	(void)argc;
	if (getpid() != 1)
		return ask_init(argv[0]);
	umask(022);
	if (chdir("/"))
		perror("/");
	set_up_signals();
	setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
	open_console();
	make_root_movable();
	mount_file_systems();
	open_console(); /* now the one in devtmpfs */
	set_host_name();
	raise_loopback();
	watch_power_button();
	load_runtime();
	onboot = read_section("onboot");
	services = read_section("services");
	onshutdown = read_section("onshutdown");
	if (run_onboot() && !request)
		run_services();
	stopping = true;
	if (request)
		stop_everything(&onshutdown, &services);
	else
		stop_everything(&(struct section){ NULL, 0 }, &services);
	end_machine(request);
}

/*
 * PID 1 of the guest. What the files have in common.
 *
 *   init.c          signals, the order of things, services and their restarts
 *   log.c           lines on the console
 *   mounts.c        the file systems that a guest begins with
 *   description.c   what is said of the containers
 *   prepare.c       what a container needs before it starts
 *   container.c     one container, run by crun
 *   runtime.c       crun, kept ready
 *   power_button.c  ACPI's
 *   shutdown.c      the way out
 */
#ifndef INIT_H
#define INIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define ARRAY_SIZE(array) (sizeof(array) / sizeof((array)[0]))

enum on_exit { EXIT_NOTHING, EXIT_RESTART, EXIT_RESTART_ON_FAILURE, EXIT_POWEROFF };

enum request { REQUEST_NONE, REQUEST_POWEROFF, REQUEST_REBOOT };

struct setting {
	char *key;
	char *value;
};

struct container {
	const char *section; /* onboot, services, onshutdown */
	char *name;
	char *id;            /* crun's: <section>-<name> */
	char *folder;        /* with config.json and run */
	struct setting *settings;
	size_t setting_count;
	enum on_exit on_exit;
	pid_t pid;          /* of crun; 0: does not run */
	int status;         /* of its last run, as wait() gives it */
	unsigned starts;
	double started_at;
	double restart_at;  /* 0: not to be restarted */
	double delay;       /* before the next restart */
};

struct section {
	struct container *containers;
	size_t count;
};

/* log.c */
double now(void); /* seconds since the machine started */
void open_console(void);
void say(const char *format, ...) __attribute__((format(printf, 1, 2)));
void say_text(const char *text);

/* mounts.c */
bool make_folders(const char *path);
bool mount_with_options(const char *type, const char *source, const char *target, const char *options);
void mount_file_systems(void);
void make_root_movable(void);

/* description.c */
struct section read_section(const char *name);
char *text_of(const char *format, ...) __attribute__((format(printf, 1, 2)));
char *read_text(const char *path);

/* prepare.c */
bool prepare(const struct container *container);
bool keeps_namespaces(const struct container *container);
bool bind_namespaces(const struct container *container, pid_t pid);

/* container.c */
bool start_container(struct container *container);
const char *describe_status(int status);

/* runtime.c */
void load_runtime(void);
void exec_runtime(char *const argv[]);

/* power_button.c */
void watch_power_button(void);
bool power_button_pressed(void);

/* init.c */
pid_t fork_child(void); /* a child to which signals are what they are to any process */
void wait_until(double deadline); /* reaps, notes requests; returns at the first signal or at the deadline */
enum request requested(void);

/* shutdown.c */
void stop_everything(struct section *onshutdown, struct section *services);
void end_machine(enum request request) __attribute__((noreturn));

#endif

/* What the parts of the test agent share. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { GETVERSION = 0, STARTPOD = 1, DESTROYPOD = 4, EXECCMD = 6, READY = 8, ACK = 9, ERROR = 10, WINSIZE = 11,
       PING = 12, NEXT = 14, WRITEFILE = 15, READFILE = 16, NEWCONTAINER = 17, KILLCONTAINER = 18, ONLINECPUMEM = 19,
       SETUPINTERFACE = 20, SETUPROUTE = 21, REMOVECONTAINER = 22, EVENT = 23, SIGNALPROCESS = 24 };

#define UNREAD 512
#define PROCESSES 16

struct process {
	pid_t pid; /* 0: this place is free */
	char container[65], id[65];
	uint64_t stdio, stderr_;
	int in, out, err, terminal, first, exited, status, input_ends;
	char unread[UNREAD];
	size_t unread_size;
};

extern struct process processes[PROCESSES];

/* agent.c */
void say(uint32_t code, const void *body, uint32_t size);
void stream(uint64_t number, const void *data, uint32_t size);

/* json.c: values are found where they stand; NULL is a value that is not there */
const char *member(const char *object, const char *key);
char *text(const char *value);
char *text_of(const char *object, const char *key);
long long number_of(const char *object, const char *key);
int count(const char *list);
const char *item(const char *list, int n);

/* process.c */
struct process *find(const char *container, const char *id);
char *place(const char *container, const char *file);
int start(const char *container, const char *body, int first);
void reap(void);
void hand_out(struct process *self, int *fd, uint64_t number);
void pass_input(struct process *self);
int take_input(uint64_t number, const char *data, size_t size);

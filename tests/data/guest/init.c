/* PID 1 of the guests that tests boot: says that user space is there and when, then ends the machine. */
#include <stdio.h>
#include <sys/reboot.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct timespec now;
	struct utsname name;

	clock_gettime(CLOCK_BOOTTIME, &now);
	uname(&name);
	printf("\nccstore-guest: user space of %s after %ld.%03ld s\n", name.release, (long)now.tv_sec,
	       now.tv_nsec / 1000000);
	fflush(stdout);
	sync();
	reboot(RB_AUTOBOOT);
	for (;;)
		pause();
}

#include <compile.h>
#include <tiny/kernel.h>

/* what a loader leaves at the address that it passes in %ebx; source: Xen, "x86/HVM direct boot ABI" */
struct start_info {
	unsigned int magic, version, flags, modules_count;
	unsigned long modules, command_line;
};

void tiny_main(const struct start_info *start)
{
	tiny_print("Tinylinux " UTS_RELEASE " (" UTS_VERSION ")\n");
#ifdef CONFIG_BUS
	tiny_bus();
#endif
#ifdef CONFIG_NET
	tiny_net();
#endif
#ifdef CONFIG_HELLO
	tiny_hello();
#endif
	tiny_print("Command line: ");
	tiny_print((const char *)start->command_line);
	tiny_print("\n");
}

#include <tiny/kernel.h>

void tiny_net(void)
{
	tiny_print("net: no card\n");
}

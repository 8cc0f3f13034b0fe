#include <tiny/kernel.h>

void tiny_bus(void)
{
	tiny_print("bus: found\n");
}

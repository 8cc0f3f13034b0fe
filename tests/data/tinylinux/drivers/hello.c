#include <tiny/kernel.h>

void tiny_hello(void)
{
	int i;

	for (i = 0; i < CONFIG_REPEAT; i++)
		tiny_print(CONFIG_GREETING "\n");
}

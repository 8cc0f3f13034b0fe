#include <tiny/kernel.h>

void tiny_broken(void)
{
	tiny_print(undeclared_variable);
}

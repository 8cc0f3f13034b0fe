#include <asm/io.h>
#include <tiny/kernel.h>

#define LINE_STATUS 5
#define CAN_SEND 0x20

void tiny_print(const char *text)
{
	for (; text && *text; text++) {
		while (!(inb(CONFIG_PORT + LINE_STATUS) & CAN_SEND))
			;
		outb(*text, CONFIG_PORT);
	}
}

#ifndef TINY_KERNEL_H
#define TINY_KERNEL_H

void tiny_print(const char *text);
void tiny_bus(void);
void tiny_net(void);
void tiny_hello(void);

#endif

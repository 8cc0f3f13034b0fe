/* Entered by PVH: 32-bit protected mode, paging off, %ebx = physical address of the start information. */
#define KERNEL_CODE 0x08
#define KERNEL_DATA 0x10

	.section .note.pvh, "a", @note
	.align 4
	.long 4, 4, 18			/* sizes of name and value; the type "entry point in 32-bit mode" */
	.asciz "Xen"
	.long start

	.section .text.head, "ax"
	.code32
	.globl start
start:
	cld
	lgdt gdt_pointer
	movl $stack_top, %esp
	movl %ebx, %edi

	/* one gibibyte, mapped to itself by pages of two mebibytes */
	movl $page_directories + 3, page_top
	movl $pages + 3, page_directories
	movl $0x83, %eax
	movl $pages, %edx
1:	movl %eax, (%edx)
	addl $0x200000, %eax
	addl $8, %edx
	cmpl $pages + 4096, %edx
	jb 1b

	movl $0x20, %eax		/* CR4.PAE */
	movl %eax, %cr4
	movl $page_top, %eax
	movl %eax, %cr3
	movl $0xc0000080, %ecx		/* EFER.LME */
	rdmsr
	orl $0x100, %eax
	wrmsr
	movl $0x80000001, %eax		/* CR0.PG, CR0.PE */
	movl %eax, %cr0
	ljmp $KERNEL_CODE, $long_mode

	.code64
long_mode:
	movl $KERNEL_DATA, %eax
	movl %eax, %ss
	movl %eax, %ds
	movl %eax, %es
	call tiny_main

	.globl tiny_reboot
tiny_reboot:				/* an interrupt without a table of handlers resets the machine */
	lidt no_handlers
	int3
	hlt

	.section .rodata
	.align 8
gdt:	.quad 0, 0x00af9a000000ffff, 0x00cf92000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt
no_handlers:
	.word 0
	.quad 0

	.bss
	.align 4096
page_top:
	.skip 4096
page_directories:
	.skip 4096
pages:
	.skip 4096
	.skip 16384
stack_top:

	.section .note.GNU-stack, "", @progbits

/*
 * The power button of a machine with ACPI (QEMU's `system_powerdown`): the kernel tells it by generic netlink, family
 * `acpi_event`, in a message with one attribute, a structure that begins with the class of the device, `button/power`
 * (Linux, drivers/acpi/event.c). A signal says that there is a message, so that PID 1 waits for signals alone.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAMILY "acpi_event"
#define BUTTON "button/power"

struct message {
	struct nlmsghdr head;
	struct genlmsghdr generic;
	char attributes[4096];
} __attribute__((aligned(NLMSG_ALIGNTO)));

static int events = -1;

/* The content of the first attribute of that type in what another holds, or NULL. */
static const char *find(const char *held, size_t size, int type, size_t *found_size)
{
	while (size >= NLA_HDRLEN) {
		const struct nlattr *each = (const void *)held;
		size_t step = NLA_ALIGN(each->nla_len);

		if (each->nla_len < NLA_HDRLEN || each->nla_len > size)
			return NULL;
		*found_size = each->nla_len - NLA_HDRLEN;
		if ((each->nla_type & NLA_TYPE_MASK) == type)
			return held + NLA_HDRLEN;
		if (step >= size)
			return NULL;
		held += step;
		size -= step;
	}
	return NULL;
}

/* The size of the attributes of the next message; -1: there is none. */
static ssize_t receive(struct message *message)
{
	ssize_t size = recv(events, message, sizeof(*message), MSG_DONTWAIT);
	ssize_t head = offsetof(struct message, attributes);

	if (size < 0)
		return -1;
	return size < head || message->head.nlmsg_type == NLMSG_ERROR ? 0 : size - head;
}

static bool ask_for_family(void)
{
	struct message message = {
		.head = { .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST },
		.generic = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
	};
	struct nlattr name = { NLA_HDRLEN + sizeof(FAMILY), CTRL_ATTR_FAMILY_NAME };

	memcpy(message.attributes, &name, NLA_HDRLEN);
	memcpy(message.attributes + NLA_HDRLEN, FAMILY, sizeof(FAMILY));
	message.head.nlmsg_len = offsetof(struct message, attributes) + NLA_ALIGN(name.nla_len);
	return send(events, &message, message.head.nlmsg_len, 0) == (ssize_t)message.head.nlmsg_len;
}

/* The number of the family's one multicast group; 0: the kernel has none. */
static unsigned find_group(void)
{
	struct message answer;
	ssize_t received = ask_for_family() ? receive(&answer) : -1;
	size_t size = received > 0 ? (size_t)received : 0;
	const char *found = find(answer.attributes, size, CTRL_ATTR_MCAST_GROUPS, &size);
	unsigned group = 0;

	if (found)
		found = find(found, size, 1, &size);
	if (found)
		found = find(found, size, CTRL_ATTR_MCAST_GRP_ID, &size);
	if (found && size == sizeof(group))
		memcpy(&group, found, size);
	return group;
}

void watch_power_button(void)
{
	unsigned group;

	events = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (events < 0)
		return;
	group = find_group();
	if (!group)
		return; /* a machine without ACPI */
	if (fcntl(events, F_SETOWN, getpid()) || fcntl(events, F_SETFL, O_ASYNC) ||
	    setsockopt(events, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)))
		say("the power button is not watched: %s", strerror(errno));
}

bool power_button_pressed(void)
{
	struct message message;
	bool pressed = false;

	for (ssize_t size = receive(&message); size >= 0; size = receive(&message)) {
		size_t length;
		const char *event = find(message.attributes, (size_t)size, 1, &length);

		pressed |= event && length >= sizeof(BUTTON) && !strcmp(event, BUTTON);
	}
	return pressed;
}

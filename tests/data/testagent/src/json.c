/* JSON without blanks, as our client writes it. */
#include "agent.h"

static const char *skip(const char *at)
{
	int depth = 0;

	do {
		if (*at == '"')
			for (at++; *at && *at != '"'; at++)
				at += *at == '\\';
		else if (*at == '{' || *at == '[')
			depth++;
		else if (*at == '}' || *at == ']')
			depth--;
		at += *at != 0;
	} while (*at && (depth > 0 || !strchr(",:]}", *at)));
	return at;
}

const char *member(const char *object, const char *key)
{
	const char *at = object, *value;

	if (!at || *at != '{')
		return NULL;
	while (*at && *at != '}') {
		value = skip(++at);
		if (*value != ':')
			return NULL;
		if ((size_t)(value - at) == strlen(key) + 2 && !strncmp(at + 1, key, strlen(key)))
			return value + 1;
		at = skip(value + 1);
	}
	return NULL;
}

char *text(const char *value)
{
	char *copy = calloc(1, value ? strlen(value) + 1 : 1), *to = copy;
	static const char plain[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
	unsigned number;

	if (!value || *value != '"')
		return copy;
	for (value++; *value && *value != '"'; value++)
		if (*value != '\\')
			*to++ = *value;
		else if (*++value == 'u' && sscanf(value + 1, "%4x", &number) == 1) {
			*to++ = number;
			value += 4;
		} else if (*value && strchr(plain, *value))
			*to++ = meant[strchr(plain, *value) - plain];
	return copy;
}

char *text_of(const char *object, const char *key)
{
	return text(member(object, key));
}

long long number_of(const char *object, const char *key)
{
	const char *value = member(object, key);

	return value ? atoll(value) : 0;
}

int count(const char *list)
{
	int n = 0;

	if (!list || *list != '[')
		return 0;
	for (list++; *list && *list != ']'; list += *list == ',', n++)
		list = skip(list);
	return n;
}

const char *item(const char *list, int n)
{
	for (list++; n; n--)
		list = skip(list) + 1;
	return list;
}

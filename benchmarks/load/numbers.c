#include "numbers.h"

#include <stdlib.h>
#include <string.h>

/* What is beyond is nobody's count or clock, and sums of it would overflow. */
#define MOST 1000000000000

static const char *after(const char *text, const char *token) {
    if (!text) return NULL;
    text += strspn(text, " \t\n\r");
    size_t length = strlen(token);
    return strncmp(text, token, length) ? NULL : text + length;
}

bool numbers_read(const char *data, uint64_t *n, int64_t *at) {
    const char *text = after(after(after(data, "{"), "\"n\""), ":");
    if (!text) return false;
    char *end;
    *n = strtoull(text, &end, 10);
    if (end == text) return false;
    text = after(after(after(end, ","), "\"at\""), ":");
    if (!text) return false;
    double seconds = strtod(text, &end);
    if (end == text || !(seconds >= 0 && seconds < MOST) || *n == 0 || *n > MOST) return false;
    *at = (int64_t)(seconds * 1e6);
    return true;
}

/* The beginning of a line whose end has not come. Costs nothing while no line is split. */
#ifndef PARTIAL_H
#define PARTIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What is longer is cut: of an event only its first bytes matter here, and an id has at most 1,024. */
#define PARTIAL_LIMIT 4096

struct partial {
    char *bytes;
    uint32_t length, capacity;
    bool cut;
};

void partial_append(struct partial *p, const char *bytes, size_t length);
void partial_clear(struct partial *p);
void partial_free(struct partial *p);

#endif

#include "partial.h"

#include <stdlib.h>
#include <string.h>

void partial_append(struct partial *p, const char *bytes, size_t length) {
    if (length > PARTIAL_LIMIT - p->length) {
        length = PARTIAL_LIMIT - p->length;
        p->cut = true;
    }
    if (p->length + length > p->capacity) {
        uint32_t capacity = p->capacity ? p->capacity : 128;
        while (capacity < p->length + length) capacity *= 2;
        char *grown = realloc(p->bytes, capacity);
        if (!grown) abort();
        p->bytes = grown;
        p->capacity = capacity;
    }
    if (length) memcpy(p->bytes + p->length, bytes, length);
    p->length += (uint32_t)length;
}

void partial_clear(struct partial *p) {
    p->length = 0;
    p->cut = false;
}

void partial_free(struct partial *p) {
    free(p->bytes);
    *p = (struct partial){0};
}

/* Who is due next: a binary heap. Each client is in it at most once, so its size is known. */
#ifndef HEAP_H
#define HEAP_H

#include <stddef.h>
#include <stdint.h>

struct due {
    int64_t at;
    uint32_t client;
};

struct heap {
    struct due *items;
    size_t count;
};

void heap_create(struct heap *h, size_t capacity);
void heap_push(struct heap *h, struct due item);
struct due heap_pop(struct heap *h);

#endif

#include "heap.h"

#include <stdlib.h>

void heap_create(struct heap *h, size_t capacity) {
    h->items = malloc(capacity * sizeof *h->items);
    if (!h->items) abort();
    h->count = 0;
}

void heap_push(struct heap *h, struct due item) {
    size_t at = h->count++;
    for (size_t parent; at && h->items[parent = (at - 1) / 2].at > item.at; at = parent)
        h->items[at] = h->items[parent];
    h->items[at] = item;
}

struct due heap_pop(struct heap *h) {
    struct due top = h->items[0], last = h->items[--h->count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < h->count; at = child) {
        if (child + 1 < h->count && h->items[child + 1].at < h->items[child].at) child++;
        if (h->items[child].at >= last.at) break;
        h->items[at] = h->items[child];
    }
    h->items[at] = last;
    return top;
}

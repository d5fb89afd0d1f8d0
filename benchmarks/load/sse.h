/* The event stream format as a browser reads it (WHATWG HTML, 9.2.5 and 9.2.6). No socket, no clock. */
#ifndef SSE_H
#define SSE_H

#include "partial.h"

/* Of an event's data only the beginning is kept: it has the producer's number and time. */
#define SSE_DATA_KEPT 160
#define SSE_NAME_KEPT 16

struct sse;

struct sse_sink {
    void (*retry)(void *context, int64_t ms);
    /* At each blank line that ends at least one field. With `data_lines` it is an event. */
    void (*block)(void *context, struct sse *s);
};

struct sse {
    struct partial line;
    struct partial id; /* of this block; it counts from the blank line on */
    bool has_id;
    bool after_cr; /* an LF at the very beginning belongs to the CR before it */
    bool begun;    /* past the place of a byte order mark */
    uint8_t name_length, data_kept;
    uint16_t fields;
    uint32_t data_lines;
    uint64_t comments, cut_lines;
    char name[SSE_NAME_KEPT];
    char data[SSE_DATA_KEPT + 1];
};

void sse_start(struct sse *s); /* for the next response; keeps the memory */
void sse_feed(struct sse *s, const char *bytes, size_t length, const struct sse_sink *sink, void *context);
bool sse_is_named(const struct sse *s, const char *name);
void sse_free(struct sse *s);

#endif

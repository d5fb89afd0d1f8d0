#include "sse.h"

#include <string.h>

static void start_block(struct sse *s) {
    s->has_id = false;
    s->name_length = s->data_kept = 0;
    s->fields = 0;
    s->data_lines = 0;
}

void sse_start(struct sse *s) {
    partial_clear(&s->line);
    s->after_cr = s->begun = false;
    s->comments = s->cut_lines = 0;
    start_block(s);
}

void sse_free(struct sse *s) {
    partial_free(&s->line);
    partial_free(&s->id);
}

bool sse_is_named(const struct sse *s, const char *name) {
    return s->name_length == strlen(name) && !memcmp(s->name, name, s->name_length);
}

static void keep_data(struct sse *s, const char *bytes, size_t length) {
    if (length > (size_t)(SSE_DATA_KEPT - s->data_kept)) length = SSE_DATA_KEPT - s->data_kept;
    memcpy(s->data + s->data_kept, bytes, length);
    s->data_kept += (uint8_t)length;
}

static void take_retry(const char *value, size_t length, const struct sse_sink *sink, void *context) {
    int64_t ms = 0;
    for (size_t i = 0; i < length; i++) {
        if (value[i] < '0' || value[i] > '9') return;
        if (ms < INT32_MAX) ms = ms * 10 + (value[i] - '0');
    }
    if (length) sink->retry(context, ms < INT32_MAX ? ms : INT32_MAX);
}

static void take_line(struct sse *s, const char *line, size_t length, const struct sse_sink *sink,
                      void *context) {
    if (length == 0) {
        if (s->fields) {
            s->data[s->data_kept] = 0;
            sink->block(context, s);
        }
        start_block(s);
        return;
    }
    if (*line == ':') {
        s->comments++;
        return;
    }
    const char *colon = memchr(line, ':', length);
    size_t name = colon ? (size_t)(colon - line) : length;
    const char *value = colon ? colon + 1 : line + length;
    size_t size = (size_t)(line + length - value);
    if (size && *value == ' ') value++, size--;
#define IS(text) (name == sizeof text - 1 && !memcmp(line, text, name))
    if (IS("data")) {
        if (s->data_lines++) keep_data(s, "\n", 1);
        keep_data(s, value, size);
    } else if (IS("event")) {
        /* A name that does not fit is none that means something here. */
        s->name_length = (uint8_t)(size <= SSE_NAME_KEPT ? size : 0);
        memcpy(s->name, value, s->name_length);
    } else if (IS("id")) {
        if (!memchr(value, 0, size)) {
            partial_clear(&s->id);
            partial_append(&s->id, value, size);
            s->has_id = true;
        }
    } else if (IS("retry")) {
        take_retry(value, size, sink, context);
    } else {
        return; /* unknown fields are ignored */
    }
#undef IS
    if (s->fields < UINT16_MAX) s->fields++;
}

void sse_feed(struct sse *s, const char *bytes, size_t length, const struct sse_sink *sink, void *context) {
    const char *end = bytes + length;
    while (bytes < end) {
        if (s->after_cr) {
            s->after_cr = false;
            if (*bytes == '\n') {
                bytes++;
                continue;
            }
        }
        const char *stop = memchr(bytes, '\n', (size_t)(end - bytes));
        const char *cr = memchr(bytes, '\r', (size_t)((stop ? stop : end) - bytes));
        if (cr) stop = cr;
        if (!stop) {
            partial_append(&s->line, bytes, (size_t)(end - bytes));
            return;
        }
        s->after_cr = *stop == '\r';
        const char *line = bytes;
        size_t size = (size_t)(stop - bytes);
        if (s->line.length) {
            partial_append(&s->line, bytes, size);
            line = s->line.bytes;
            size = s->line.length;
            s->cut_lines += s->line.cut;
        }
        if (!s->begun && size >= 3 && !memcmp(line, "\xef\xbb\xbf", 3)) line += 3, size -= 3;
        s->begun = true;
        take_line(s, line, size, sink, context);
        partial_clear(&s->line);
        bytes = stop + 1;
    }
}

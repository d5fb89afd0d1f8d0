#include "http.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void http_start(struct http *h) {
    struct partial line = h->line;
    partial_clear(&line);
    *h = (struct http){.length = -1, .retry_after = -1, .line = line};
}

bool http_ends_by_close(const struct http *h) { return h->state == HTTP_UNTIL_CLOSE; }

/* Copy to a string without the spaces around it, so that the standard library can read it. */
static const char *string(const char *bytes, size_t length) {
    static char copy[256];
    while (length && (*bytes == ' ' || *bytes == '\t')) bytes++, length--;
    while (length && (bytes[length - 1] == ' ' || bytes[length - 1] == '\t')) length--;
    if (length >= sizeof copy) length = sizeof copy - 1;
    memcpy(copy, bytes, length);
    copy[length] = 0;
    return copy;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static void status_line(struct http *h, const char *line, size_t length) {
    /* "HTTP/1.1 200 OK"; HTTP/1.0 closes unless it says otherwise, which this client never asks for. */
    if (length < 12 || memcmp(line, "HTTP/1.", 7) || line[8] != ' ' || !is_digit(line[9]) ||
        !is_digit(line[10]) || !is_digit(line[11])) {
        h->state = HTTP_BAD;
        return;
    }
    h->close = line[7] == '0';
    h->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    h->state = HTTP_HEADER;
}

static void header(struct http *h, const char *line, size_t length) {
    const char *colon = memchr(line, ':', length);
    if (!colon) {
        h->state = HTTP_BAD;
        return;
    }
    size_t name = (size_t)(colon - line);
    const char *value = string(colon + 1, length - name - 1);
#define IS(text) (name == sizeof text - 1 && !strncasecmp(line, text, name))
    if (IS("content-length")) h->length = strtoll(value, NULL, 10);
    else if (IS("transfer-encoding")) h->chunked = !strcasecmp(value, "chunked");
    else if (IS("connection")) h->close |= !strcasecmp(value, "close");
    else if (IS("content-type")) h->event_stream = !strncasecmp(value, "text/event-stream", 17);
    else if (IS("retry-after") && is_digit(*value)) h->retry_after = strtoll(value, NULL, 10);
#undef IS
}

static void end_of_head(struct http *h) {
    if (h->status < 200) { /* 100 Continue and the like: another head follows */
        http_start(h);
    } else if (h->status == 204 || h->status == 304) {
        h->state = HTTP_DONE;
    } else if (h->chunked) {
        h->state = HTTP_CHUNK_SIZE;
    } else if (h->length >= 0) {
        h->missing = h->length;
        h->state = h->length ? HTTP_LENGTH : HTTP_DONE;
    } else {
        h->state = HTTP_UNTIL_CLOSE;
    }
}

static void chunk_size(struct http *h, const char *line, size_t length) {
    const char *text = string(line, length);
    char *end;
    h->missing = strtoll(text, &end, 16);
    if (end == text || h->missing < 0 || (*end && *end != ';' && *end != ' ')) h->state = HTTP_BAD;
    else h->state = h->missing ? HTTP_CHUNK : HTTP_TRAILER;
}

static void take_line(struct http *h, const char *line, size_t length) {
    if (length && line[length - 1] == '\r') length--;
    switch (h->state) {
    case HTTP_STATUS_LINE: status_line(h, line, length); break;
    case HTTP_HEADER: length ? header(h, line, length) : end_of_head(h); break;
    case HTTP_CHUNK_SIZE: chunk_size(h, line, length); break;
    case HTTP_CHUNK_END: h->state = length ? HTTP_BAD : HTTP_CHUNK_SIZE; break;
    case HTTP_TRAILER: if (!length) h->state = HTTP_DONE; break;
    default: break;
    }
}

void http_feed(struct http *h, const char *bytes, size_t length,
               void (*body)(void *context, const char *bytes, size_t length), void *context) {
    while (length && h->state != HTTP_BAD) {
        size_t used = length;
        if (h->state == HTTP_DONE) { /* nobody asked for more */
            h->state = HTTP_BAD;
        } else if (h->state == HTTP_UNTIL_CLOSE) {
            body(context, bytes, length);
        } else if (h->state == HTTP_CHUNK || h->state == HTTP_LENGTH) {
            if ((int64_t)used > h->missing) used = (size_t)h->missing;
            body(context, bytes, used);
            h->missing -= (int64_t)used;
            if (!h->missing) h->state = h->state == HTTP_CHUNK ? HTTP_CHUNK_END : HTTP_DONE;
        } else {
            const char *end = memchr(bytes, '\n', length);
            if (!end) {
                partial_append(&h->line, bytes, length);
            } else {
                used = (size_t)(end - bytes) + 1;
                if (h->line.length) {
                    partial_append(&h->line, bytes, used - 1);
                    take_line(h, h->line.bytes, h->line.length);
                    partial_clear(&h->line);
                } else {
                    take_line(h, bytes, used - 1);
                }
            }
        }
        bytes += used;
        length -= used;
    }
}

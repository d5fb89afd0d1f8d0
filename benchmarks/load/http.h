/* An HTTP/1.1 response, taken byte by byte as it comes (RFC 9112). No socket, no clock. */
#ifndef HTTP_H
#define HTTP_H

#include "partial.h"

enum http_state {
    HTTP_STATUS_LINE,
    HTTP_HEADER,
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_LENGTH,
    HTTP_UNTIL_CLOSE,
    HTTP_DONE,
    HTTP_BAD,
};

struct http {
    enum http_state state;
    int status;
    int64_t missing;     /* of the chunk, or of the body with a length */
    int64_t length;      /* Content-Length, -1 without one */
    int64_t retry_after; /* seconds, -1 without one */
    bool chunked, event_stream, close;
    struct partial line;
};

void http_start(struct http *h); /* for the next response; keeps the line's memory */
static inline bool http_has_head(const struct http *h) { return h->status && h->state > HTTP_HEADER; }
/* Take bytes; *body* is called with each piece of the body. */
void http_feed(struct http *h, const char *bytes, size_t length,
               void (*body)(void *context, const char *bytes, size_t length), void *context);
/* Tell whether the close of the connection is the proper end of the body. */
bool http_ends_by_close(const struct http *h);

#endif

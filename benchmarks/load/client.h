/* The logical clients: each connects, reads a burst, waits as it was told, and comes back. */
#ifndef CLIENT_H
#define CLIENT_H

#include <sys/epoll.h>

#include "heap.h"
#include "histogram.h"
#include "http.h"
#include "options.h"
#include "sse.h"

#define STATUSES 1000
#define ERRNOS 256

enum answer { ANSWER_NONE, ANSWER_STREAM, ANSWER_REFUSAL, ANSWER_503, ANSWER_OTHER, ANSWER_FAILED, ANSWERS };

/* One open connection; a client that waits has none. */
struct stream {
    int fd;
    uint32_t client;
    bool connected;    /* the request is sent */
    bool reused;       /* it is not the connection's first request */
    bool ended;        /* the response is over, the connection may be left */
    bool got_anything; /* of this response */
    bool got_head;
    bool got_body;
    uint32_t blocks, events;
    int64_t began;    /* when it was connected or, on a kept connection, requested */
    int64_t answered; /* the first block */
    int64_t now;      /* when the bytes came that are being read */
    struct http http;
    struct sse sse;
};

/* About a hundred bytes and the last id: many can wait. */
struct client {
    struct stream *stream;
    char *id;
    uint16_t id_length, id_capacity;
    uint8_t answer;
    bool stopped;
    uint32_t retry_ms;
    uint32_t gaps, repeats;
    uint64_t first, highest; /* numbers; the next one expected is `highest` + 1 */
    int64_t started, ended;  /* the first connect; the end of the last response, 0 while there was none */
};

/* What only grows, so that a window is the difference of two copies. */
struct tally {
    int64_t at;
    uint64_t connections, requests, responses, blocks, events, comments, bytes;
    /* Areas: how many there were, times microseconds. */
    double socket_us, stream_us, client_us;
};

struct load {
    struct options options;
    int epoll;
    int64_t started, measured_from, measured_until;
    struct client *clients;
    struct heap waiting;
    uint32_t arrived, stopped;
    uint32_t sockets, most_sockets, streams;
    struct tally tally;
    uint64_t *heads; /* the highest number seen of each channel */

    uint64_t statuses[STATUSES], connect_errors[ERRNOS], read_errors[ERRNOS];
    uint64_t cut, unanswered, bad_http, not_event_stream, cut_lines, stale, left_open;
    uint64_t gaps, missing, gap_events, repeats, unnumbered, from_the_future;
    uint64_t ended_by_server, reset_by_server; /* while stalled or held open */
    uint64_t retries, waits, answers[ANSWERS];
    double retry_ms, wait_us;
    struct histogram latency, first_byte, answer_times[ANSWERS], reclaimed;
    struct histogram lateness; /* of the client itself: from when somebody was due to when it began */
};

/* Make the clients and say when each arrives, from now on. */
void clients_create(struct load *l);
/* Let those begin that are due, at most a few, so that what comes in is not kept waiting. */
void clients_begin_due(struct load *l);
void clients_ready(struct load *l, struct stream *s, uint32_t events);
/* Bring the areas up to now. */
void clients_tally(struct load *l, int64_t now);
/* In a storm: say what becomes of those that have no end yet. */
void clients_judge_open(struct load *l);
uint32_t clients_channel(const struct load *l, uint32_t client);

#endif

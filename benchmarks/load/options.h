/* What the client is asked to do. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

#define OPTIONS_LIST 16

struct options {
    struct in_addr host;
    uint16_t ports[OPTIONS_LIST];
    int port_count;
    const char *path, *query;
    const char *headers[OPTIONS_LIST];
    int header_count;
    bool from_earliest;
    uint32_t clients, channels, sources;
    /* Durations in microseconds. */
    int64_t ramp, seconds, warmup, settle;
    /* Waits in milliseconds; `ignore_retry_ms` is -1 when the server's word counts. */
    int64_t retry_ms, ignore_retry_ms, error_retry_ms;
    uint64_t until_n;
    int rcvbuf;
    bool stall, hold_open, storm, keep_alive, progress;
};

/* Read the command line; what is wrong is said on stderr, and the program ends with 2. */
struct options options_read(int count, char **words);

#endif

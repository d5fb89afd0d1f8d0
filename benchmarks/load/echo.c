/* The smallest server that the load client can be measured against: one thread, one epoll.
 *
 * Without --rate each request is answered with a burst that goes on after the Last-Event-ID it sent, and
 * closed. With --rate every connection is held and sent that many events a second. Loopback only. */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"

#define REQUEST_LIMIT 4096
#define RESPONSE_LIMIT (1 << 18)
#define EVENT_LIMIT 4096

static const char HEAD[] =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n"
    "Transfer-Encoding: chunked\r\n\r\n";

struct settings {
    int port, burst, retry_ms, rate, padding;
    double seconds;
};

struct connection {
    int fd;
    size_t place, length; /* in the list of the held; of the request so far */
    bool held;
    char request[REQUEST_LIMIT + 1];
};

static struct settings settings = {.burst = 10, .retry_ms = 100, .padding = 20, .seconds = 60};
static struct connection **held;
static size_t held_count;
static unsigned long long sent, dropped;
static volatile sig_atomic_t told_to_end;

static void on_signal(int number) {
    (void)number;
    told_to_end = 1;
}

static void drop(struct connection *c) {
    if (c->held) {
        held[c->place] = held[--held_count];
        held[c->place]->place = c->place;
    }
    close(c->fd);
    free(c);
}

static size_t write_event(char *out, unsigned long long n, double at) {
    return (size_t)snprintf(out, EVENT_LIMIT, "id: %llu\ndata: {\"n\":%llu,\"at\":%.6f,\"text\":\"%*s\"}\n\n",
                            n, n, at, settings.padding, "");
}

static size_t write_chunk(char *out, const char *body, size_t length) {
    size_t size = (size_t)sprintf(out, "%zx\r\n", length);
    memcpy(out + size, body, length);
    memcpy(out + size + length, "\r\n", 2);
    return size + length + 2;
}

static void answer_burst(struct connection *c) {
    static char body[RESPONSE_LIMIT], out[RESPONSE_LIMIT + 256];
    const char *cursor = strstr(c->request, "\r\nLast-Event-ID: ");
    unsigned long long n = cursor ? strtoull(cursor + 17, NULL, 10) : 0;
    double at = (double)now_us() / 1e6;
    size_t length = (size_t)sprintf(body, "retry: %d\nid: %llu\n\n", settings.retry_ms, n);
    for (int i = 0; i < settings.burst && length < RESPONSE_LIMIT - EVENT_LIMIT; i++, sent++)
        length += write_event(body + length, ++n, at);
    size_t size = sizeof HEAD - 1;
    memcpy(out, HEAD, size);
    size += write_chunk(out + size, body, length);
    memcpy(out + size, "0\r\n\r\n", 5);
    if (send(c->fd, out, size + 5, MSG_NOSIGNAL) != (ssize_t)(size + 5)) dropped++;
    drop(c);
}

static void hold(struct connection *c) {
    if (send(c->fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL) < 0) {
        drop(c);
        return;
    }
    held = realloc(held, (held_count + 1) * sizeof *held);
    if (!held) abort();
    c->place = held_count;
    c->held = true;
    held[held_count++] = c;
}

static void receive(struct connection *c) {
    ssize_t got = recv(c->fd, c->request + c->length, REQUEST_LIMIT - c->length, 0);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || c->held) { /* gone, or says more than it was asked */
        drop(c);
        return;
    }
    c->length += (size_t)got;
    c->request[c->length] = 0;
    if (strstr(c->request, "\r\n\r\n")) {
        if (settings.rate) hold(c);
        else answer_burst(c);
    } else if (c->length == REQUEST_LIMIT) {
        drop(c);
    }
}

static void accept_all(int listener, int epoll) {
    for (int turn = 0; turn < 64; turn++) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), one = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct connection *c = malloc(sizeof *c);
        if (!c) abort();
        c->fd = fd;
        c->length = 0;
        c->held = false;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    }
}

/* One event to everybody. */
static void publish(unsigned long long n) {
    char event[EVENT_LIMIT], chunk[EVENT_LIMIT + 64];
    size_t size = write_chunk(chunk, event, write_event(event, n, (double)now_us() / 1e6));
    for (size_t i = held_count; i-- > 0;) {
        if (send(held[i]->fd, chunk, size, MSG_NOSIGNAL) == (ssize_t)size) {
            sent++;
        } else { /* it does not read */
            dropped++;
            drop(held[i]);
        }
    }
}

static void read_settings(int count, char **words) {
    for (int i = 1; i < count; i++) {
        double value = i + 1 < count ? atof(words[i + 1]) : 0;
        if (!strcmp(words[i], "--port")) settings.port = (int)value;
        else if (!strcmp(words[i], "--burst")) settings.burst = (int)value;
        else if (!strcmp(words[i], "--retry")) settings.retry_ms = (int)value;
        else if (!strcmp(words[i], "--rate")) settings.rate = (int)value;
        else if (!strcmp(words[i], "--padding")) settings.padding = (int)(value < 2048 ? value : 2048);
        else if (!strcmp(words[i], "--seconds")) settings.seconds = value;
        else {
            fprintf(stderr,
                    "echo: '%s' is not known; --port, --burst, --retry, --rate, --padding, --seconds\n",
                    words[i]);
            exit(2);
        }
        i++;
    }
}

int main(int count, char **words) {
    read_settings(count, words);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)settings.port)};
    if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) {
        perror("echo");
        return 1;
    }
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);

    int64_t now = now_us(), end = now + (int64_t)(settings.seconds * 1e6), due = now;
    int64_t every = settings.rate ? 1000000 / settings.rate : 0;
    unsigned long long n = 0;
    while (!told_to_end && (now = now_us()) < end) {
        int wait_ms = 50;
        if (every) {
            if (now >= due) {
                publish(++n);
                due += every;
            }
            /* Awake for the last millisecond: the pace is to be the server's, not the timer's. */
            wait_ms = due > now_us() + 1000 ? (int)((due - now_us()) / 1000) : 0;
        }
        int ready = epoll_wait(epoll, events, 256, wait_ms);
        for (int i = 0; i < ready; i++) {
            if (events[i].data.ptr) receive(events[i].data.ptr);
            else accept_all(listener, epoll);
        }
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(stderr, "echo: %llu events sent, %llu dropped, %.2f CPU seconds\n", sent, dropped,
            (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    return 0;
}

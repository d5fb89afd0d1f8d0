#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "numbers.h"

/* Connects in a row before the sockets are looked at again. */
#define BEGIN_AT_ONCE 32
#define READS_AT_ONCE 4
#define REQUEST_LIMIT 8192
#define ID_LIMIT 2048
/* The polite refusal: a stream that only says to come back late. */
#define REFUSAL_MS 10000
#define REFUSAL_US 1000000

static char buffer[1 << 18];

static bool connects_once(const struct load *l) {
    return l->options.storm || l->options.stall || l->options.hold_open;
}

uint32_t clients_channel(const struct load *l, uint32_t client) { return client % l->options.channels; }

void clients_tally(struct load *l, int64_t now) {
    double passed = (double)(now - l->tally.at);
    l->tally.socket_us += passed * l->sockets;
    l->tally.stream_us += passed * l->streams;
    l->tally.client_us += passed * (l->arrived - l->stopped);
    l->tally.at = now;
}

/* --- The request ------------------------------------------------------------------------------- */

struct text {
    char bytes[REQUEST_LIMIT];
    size_t length;
    bool overflow;
};

static void add_bytes(struct text *t, const char *bytes, size_t length) {
    if (length > sizeof t->bytes - t->length) {
        t->overflow = true;
        return;
    }
    memcpy(t->bytes + t->length, bytes, length);
    t->length += length;
}

static void add(struct text *t, const char *words) { add_bytes(t, words, strlen(words)); }

/* %d is the channel's number and %i the client's; every other % stands for itself. */
static void add_template(struct text *t, const char *template, uint32_t channel, uint32_t client) {
    for (const char *at = template; *at;) {
        if (*at == '%' && (at[1] == 'd' || at[1] == 'i')) {
            char digits[16];
            snprintf(digits, sizeof digits, "%u", at[1] == 'd' ? channel : client);
            add(t, digits);
            at += 2;
        } else {
            add_bytes(t, at++, 1);
        }
    }
}

static void write_request(struct load *l, uint32_t number, struct text *t) {
    const struct options *o = &l->options;
    const struct client *c = &l->clients[number];
    uint32_t channel = clients_channel(l, number);
    const char *separator = strchr(o->path, '?') ? "&" : "?";
    t->length = 0;
    t->overflow = false;
    add(t, "GET ");
    add_template(t, o->path, channel, number);
    if (o->query) {
        add(t, separator);
        add_template(t, o->query, channel, number);
        separator = "&";
    }
    if (o->from_earliest && !c->id_length) {
        add(t, separator);
        add(t, "last_event_id=earliest");
    }
    add(t, " HTTP/1.1\r\nHost: ");
    add(t, inet_ntoa(o->host));
    add(t, "\r\nAccept: text/event-stream\r\n");
    for (int i = 0; i < o->header_count; i++) {
        add_template(t, o->headers[i], channel, number);
        add(t, "\r\n");
    }
    if (c->id_length) {
        add(t, "Last-Event-ID: ");
        add_bytes(t, c->id, c->id_length);
        add(t, "\r\n");
    }
    add(t, "\r\n");
}

/* --- A connection's beginning and end ---------------------------------------------------------- */

static void watch(struct load *l, struct stream *s, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = s};
    epoll_ctl(l->epoll, operation, s->fd, &event);
}

static void drop(struct load *l, struct stream *s) {
    clients_tally(l, now_us());
    l->sockets--;
    close(s->fd);
    l->clients[s->client].stream = NULL;
    partial_free(&s->http.line);
    sse_free(&s->sse);
    free(s);
}

static void come_back(struct load *l, uint32_t number, int64_t wait_ms, int64_t now) {
    heap_push(&l->waiting, (struct due){.at = now + wait_ms * 1000, .client = number});
}

static void stop(struct load *l, uint32_t number) {
    l->clients[number].stopped = true;
    l->stopped++;
}

static int64_t told_wait_ms(const struct load *l, const struct client *c) {
    return l->options.ignore_retry_ms >= 0 ? l->options.ignore_retry_ms : c->retry_ms;
}

static void judge(struct load *l, uint32_t number, enum answer answer, int64_t took_us) {
    l->clients[number].answer = (uint8_t)answer;
    l->answers[answer]++;
    histogram_add(&l->answer_times[answer], took_us);
}

static bool is_event_stream(const struct http *h) { return h->status == 200 && h->event_stream; }

static void judge_response(struct load *l, const struct stream *s, int64_t now) {
    const struct client *c = &l->clients[s->client];
    if (c->answer) return;
    if (!http_has_head(&s->http)) {
        judge(l, s->client, ANSWER_FAILED, now - s->began);
    } else if (!is_event_stream(&s->http)) {
        judge(l, s->client, s->http.status == 503 ? ANSWER_503 : ANSWER_OTHER, now - s->began);
    } else if (!s->blocks) {
        judge(l, s->client, ANSWER_FAILED, now - s->began);
    } else {
        bool refused = !s->events && c->retry_ms >= REFUSAL_MS && now - s->answered < REFUSAL_US;
        judge(l, s->client, refused ? ANSWER_REFUSAL : ANSWER_STREAM, s->answered - s->began);
    }
}

void clients_judge_open(struct load *l) {
    for (uint32_t i = 0; i < l->options.clients; i++) {
        const struct client *c = &l->clients[i];
        if (c->answer) continue;
        if (c->stream && c->stream->blocks)
            judge(l, i, ANSWER_STREAM, c->stream->answered - c->stream->began);
        else
            l->answers[ANSWER_NONE]++;
    }
}

/* The response is over, or will never be: count it and say when the client comes back. */
static void finish(struct load *l, struct stream *s, int64_t now) {
    struct client *c = &l->clients[s->client];
    const struct http *h = &s->http;
    clients_tally(l, now);
    l->streams--;
    l->tally.responses++;
    l->tally.comments += s->sse.comments;
    l->cut_lines += s->sse.cut_lines;
    s->ended = true;
    c->ended = now;
    if (l->options.storm) judge_response(l, s, now);
    int64_t wait_ms = told_wait_ms(l, c);
    if (http_has_head(h)) {
        if (h->status == 204 || connects_once(l)) {
            stop(l, s->client);
            return;
        }
        if (!is_event_stream(h))
            wait_ms = h->retry_after >= 0 ? h->retry_after * 1000 : l->options.error_retry_ms;
    } else if (connects_once(l)) {
        stop(l, s->client);
        return;
    }
    come_back(l, s->client, wait_ms, now);
}

/* --- What the stream says ---------------------------------------------------------------------- */

static void on_retry(void *context, int64_t ms);
static void on_block(void *context, struct sse *sse);
static const struct sse_sink sink = {.retry = on_retry, .block = on_block};

/* The one who is being read. The callbacks need both, and there is one thread. */
static struct load *reading;

static void on_retry(void *context, int64_t ms) {
    struct stream *s = context;
    reading->clients[s->client].retry_ms = (uint32_t)ms;
    reading->retries++;
    reading->retry_ms += (double)ms;
}

static void keep_id(struct client *c, const struct partial *id) {
    uint32_t length = id->length <= ID_LIMIT ? id->length : ID_LIMIT;
    if (length > c->id_capacity) {
        char *grown = realloc(c->id, length);
        if (!grown) abort();
        c->id = grown;
        c->id_capacity = (uint16_t)length;
    }
    if (length) memcpy(c->id, id->bytes, length);
    c->id_length = (uint16_t)length;
}

static void count_event(struct load *l, struct stream *s) {
    struct client *c = &l->clients[s->client];
    uint64_t n;
    int64_t at;
    s->events++;
    l->tally.events++;
    if (sse_is_named(&s->sse, "gap")) {
        l->gap_events++;
        return;
    }
    if (!numbers_read(s->sse.data, &n, &at)) {
        l->unnumbered++;
        return;
    }
    if (!c->first) {
        c->first = n;
    } else if (n <= c->highest) {
        c->repeats++;
        l->repeats++;
        return;
    } else if (n > c->highest + 1) {
        c->gaps++;
        l->gaps++;
        l->missing += n - c->highest - 1;
    }
    c->highest = n;
    uint64_t *head = &l->heads[clients_channel(l, s->client)];
    if (n > *head) *head = n;
    /* By when it was published, not by when it came: what came late is not left out, and what was
     * there before the client, or before the window, is not counted as late. */
    if (at > s->now) l->from_the_future++;
    if (at >= l->measured_from && at >= c->started) histogram_add(&l->latency, s->now - at);
}

static void on_block(void *context, struct sse *sse) {
    struct stream *s = context;
    struct load *l = reading;
    l->tally.blocks++;
    if (!s->blocks++) s->answered = s->now;
    if (sse->has_id) keep_id(&l->clients[s->client], &sse->id);
    if (sse->data_lines) count_event(l, s);
}

static void on_body(void *context, const char *bytes, size_t length) {
    struct stream *s = context;
    if (!s->got_body) {
        s->got_body = true;
        if (s->began >= reading->measured_from) histogram_add(&reading->first_byte, s->now - s->began);
    }
    if (is_event_stream(&s->http)) sse_feed(&s->sse, bytes, length, &sink, s);
}

/* --- Connecting -------------------------------------------------------------------------------- */

static void start_response(struct load *l, struct stream *s, int64_t now) {
    http_start(&s->http);
    sse_start(&s->sse);
    s->ended = s->got_anything = s->got_head = s->got_body = false;
    s->blocks = s->events = 0;
    s->began = now;
    s->answered = 0;
    clients_tally(l, now);
    l->streams++;
}

/* Undo what `start_response` has counted: there was no response. */
static void give_up(struct load *l, struct stream *s, int64_t now) {
    clients_tally(l, now);
    l->streams--;
    drop(l, s);
}

static void connect_failed(struct load *l, uint32_t number, int error, int64_t took_us, int64_t now) {
    l->connect_errors[error < ERRNOS ? error : 0]++;
    l->clients[number].ended = now;
    if (connects_once(l)) {
        if (l->options.storm) judge(l, number, ANSWER_FAILED, took_us);
        stop(l, number);
        return;
    }
    int64_t wait_ms = told_wait_ms(l, &l->clients[number]);
    come_back(l, number, wait_ms < 10 ? 10 : wait_ms, now);
}

/* Send the request; 0, or the error. A fresh socket takes a few kilobytes whole. */
static int send_request(struct load *l, struct stream *s) {
    static struct text request;
    write_request(l, s->client, &request);
    if (request.overflow) return EMSGSIZE;
    ssize_t sent = send(s->fd, request.bytes, request.length, MSG_NOSIGNAL);
    if (sent < 0) return errno;
    if ((size_t)sent < request.length) return ENOBUFS;
    s->connected = true;
    l->tally.requests++;
    return 0;
}

static uint32_t interest(const struct load *l) {
    return l->options.stall ? EPOLLRDHUP : EPOLLIN | EPOLLRDHUP;
}

static int open_socket(const struct load *l, uint32_t number, int64_t turn) {
    const struct options *o = &l->options;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0) return -errno;
    if (o->rcvbuf) setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &o->rcvbuf, sizeof o->rcvbuf);
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_addr = o->host, .sin_port = htons(o->ports[turn % o->port_count])};
    int failed = 0;
    if (o->sources) {
        /* The port is chosen at the connect, for this destination: not one for all destinations. */
        struct sockaddr_in from = {
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000002 + number % o->sources)};
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        failed = bind(fd, (struct sockaddr *)&from, sizeof from);
    }
    if (!failed) failed = connect(fd, (struct sockaddr *)&to, sizeof to) && errno != EINPROGRESS;
    if (!failed) return fd;
    int error = errno;
    close(fd);
    return -error;
}

static void open_stream(struct load *l, uint32_t number) {
    int64_t now = now_us();
    int fd = open_socket(l, number, (int64_t)l->tally.connections++);
    if (fd < 0) {
        connect_failed(l, number, -fd, now_us() - now, now_us());
        return;
    }
    struct stream *s = calloc(1, sizeof *s);
    if (!s) abort();
    s->fd = fd;
    s->client = number;
    l->clients[number].stream = s;
    start_response(l, s, now);
    if (++l->sockets > l->most_sockets) l->most_sockets = l->sockets;
    /* On loopback the handshake is mostly over by now, which saves a turn through epoll. */
    int error = send_request(l, s);
    if (!error) {
        watch(l, s, EPOLL_CTL_ADD, interest(l));
    } else if (error == EAGAIN || error == ENOTCONN) {
        watch(l, s, EPOLL_CTL_ADD, EPOLLOUT);
    } else {
        give_up(l, s, now);
        connect_failed(l, number, error, now_us() - now, now_us());
    }
}

static void connected(struct load *l, struct stream *s) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (!error) error = send_request(l, s);
    if (!error) {
        watch(l, s, EPOLL_CTL_MOD, interest(l));
        return;
    }
    uint32_t number = s->client;
    int64_t now = now_us(), took = now - s->began;
    give_up(l, s, now);
    connect_failed(l, number, error, took, now);
}

static void begin(struct load *l, uint32_t number) {
    struct client *c = &l->clients[number];
    struct stream *s = c->stream;
    int64_t now = now_us();
    if (!c->started) {
        clients_tally(l, now);
        l->arrived++;
        c->started = now;
    }
    if (c->ended) {
        l->waits++;
        l->wait_us += (double)(now - c->ended);
    }
    if (s) { /* the server has not closed it since */
        bool usable = s->http.state == HTTP_DONE && !s->http.close;
        if (usable && l->options.keep_alive) {
            s->reused = true;
            start_response(l, s, now);
            if (!send_request(l, s)) return;
            l->stale++;
            give_up(l, s, now);
        } else {
            l->left_open++;
            drop(l, s);
        }
    }
    open_stream(l, number);
}

/* --- Reading ----------------------------------------------------------------------------------- */

/* The connection is over: by its end (error 0) or by a reset. */
static void closed(struct load *l, struct stream *s, int error) {
    int64_t now = now_us();
    uint32_t number = s->client;
    bool hold = l->options.hold_open && !error;
    if (!s->ended) {
        if (s->reused && !s->got_anything) { /* it had timed out while the request was on its way */
            l->stale++;
            give_up(l, s, now);
            open_stream(l, number);
            return;
        }
        if (error) l->read_errors[error < ERRNOS ? error : 0]++;
        else if (s->http.state == HTTP_BAD) l->bad_http++;
        else if (!http_has_head(&s->http)) l->unanswered++;
        else if (!http_ends_by_close(&s->http)) l->cut++;
        finish(l, s, now);
    } else if (error && l->options.hold_open) {
        l->reset_by_server++;
        histogram_add(&l->reclaimed, now - s->began);
    }
    if (!hold) {
        drop(l, s);
        return;
    }
    l->ended_by_server++;
    watch(l, s, EPOLL_CTL_MOD, 0); /* a reset is told nevertheless */
}

static void read_some(struct load *l, struct stream *s, bool ends) {
    for (int turn = 0; turn < READS_AT_ONCE; turn++) {
        ssize_t got = recv(s->fd, buffer, sizeof buffer, 0);
        if (got < 0) {
            if (errno != EAGAIN && errno != EINTR) closed(l, s, errno);
            return;
        }
        if (got == 0) {
            closed(l, s, 0);
            return;
        }
        s->now = now_us();
        l->tally.bytes += (uint64_t)got;
        s->got_anything = true;
        reading = l;
        http_feed(&s->http, buffer, (size_t)got, on_body, s);
        if (!s->got_head && http_has_head(&s->http)) {
            s->got_head = true;
            l->statuses[s->http.status]++;
            l->not_event_stream += s->http.status == 200 && !s->http.event_stream;
        }
        if (s->http.state == HTTP_BAD) {
            if (s->ended) drop(l, s);
            else closed(l, s, 0);
            return;
        }
        if (s->http.state == HTTP_DONE && !s->ended) finish(l, s, s->now);
        /* The rest is told by epoll again; only an end that is known to be there is worth a call. */
        if (!ends && (size_t)got < sizeof buffer) return;
    }
}

/* Nobody reads here: see only that the server gives the connection up. */
static void abandoned(struct load *l, struct stream *s, uint32_t events) {
    int64_t now = now_us();
    if (!(events & (EPOLLHUP | EPOLLERR))) {
        l->ended_by_server++;
        watch(l, s, EPOLL_CTL_MOD, 0);
        return;
    }
    l->reset_by_server++;
    histogram_add(&l->reclaimed, now - s->began);
    if (!s->ended) finish(l, s, now);
    drop(l, s);
}

void clients_ready(struct load *l, struct stream *s, uint32_t events) {
    if (!s->connected) connected(l, s);
    else if (l->options.stall) abandoned(l, s, events);
    else if (l->options.hold_open && s->ended && !(events & EPOLLIN)) abandoned(l, s, events);
    else read_some(l, s, events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR));
}

void clients_begin_due(struct load *l) {
    int64_t now = now_us();
    for (int turn = 0; turn < BEGIN_AT_ONCE; turn++) {
        if (!l->waiting.count || l->waiting.items[0].at > now) return;
        struct due first = heap_pop(&l->waiting);
        histogram_add(&l->lateness, now - first.at);
        begin(l, first.client);
        now = now_us();
    }
}

void clients_create(struct load *l) {
    const struct options *o = &l->options;
    l->clients = calloc(o->clients, sizeof *l->clients);
    l->heads = calloc(o->channels, sizeof *l->heads);
    if (!l->clients || !l->heads) abort();
    heap_create(&l->waiting, o->clients);
    for (uint32_t i = 0; i < o->clients; i++) {
        l->clients[i].retry_ms = (uint32_t)o->retry_ms;
        int64_t at = l->started + o->ramp * i / o->clients;
        heap_push(&l->waiting, (struct due){.at = at, .client = i});
    }
}

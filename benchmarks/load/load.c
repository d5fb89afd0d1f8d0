/* A load client for polled SSE channels: one thread, one epoll, many clients. See --help. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include "client.h"
#include "clock.h"
#include "report.h"

#define EVENTS_AT_ONCE 256
#define TICK_US 50000
#define LAST_LOOKS 50

static volatile sig_atomic_t told_to_end;

static void on_signal(int number) {
    (void)number;
    told_to_end = 1;
}

static void raise_file_limit(void) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
}

static void progress(const struct load *l, const struct tally *before) {
    const struct tally *t = &l->tally;
    double seconds = (double)(t->at - before->at) / 1e6;
    fprintf(stderr,
            "%6.1f s: %u sockets, %.0f requests/s, %.0f events/s, %llu gaps, %llu repeats, %u stopped\n",
            (double)(t->at - l->started) / 1e6, l->sockets,
            (double)(t->requests - before->requests) / seconds,
            (double)(t->events - before->events) / seconds, (unsigned long long)l->gaps,
            (unsigned long long)l->repeats, l->stopped);
}

static int look(struct load *l, int wait_ms) {
    struct epoll_event events[EVENTS_AT_ONCE];
    int count = epoll_wait(l->epoll, events, EVENTS_AT_ONCE, wait_ms);
    for (int i = 0; i < count; i++) clients_ready(l, events[i].data.ptr, events[i].events);
    return count;
}

static void turn(struct load *l, int64_t until) {
    int64_t now = now_us();
    if (until > now + TICK_US) until = now + TICK_US;
    if (l->waiting.count && l->waiting.items[0].at < until) until = l->waiting.items[0].at;
    /* Rounded up: a wait is never shorter than it was told. */
    int wait_ms = until > now ? (int)((until - now + 999) / 1000) : 0;
    look(l, wait_ms);
    clients_begin_due(l);
}

int main(int count, char **words) {
    static struct load l;
    l.options = options_read(count, words);
    raise_file_limit();
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    l.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l.epoll < 0) {
        perror("load: epoll_create1");
        return 1;
    }

    l.started = l.tally.at = now_us();
    l.measured_from = l.started + l.options.warmup;
    l.measured_until = l.started + l.options.seconds;
    int64_t end = l.measured_until + l.options.settle;
    clients_create(&l);

    struct tally from = l.tally, until = l.tally, before = l.tally;
    bool begun = false, measured = false;
    const char *why = NULL;
    while (!why) {
        int64_t now = now_us(), next = !begun ? l.measured_from : !measured ? l.measured_until : end;
        if (now >= next) {
            clients_tally(&l, now);
            if (!begun) from = l.tally, begun = true;
            else if (!measured) until = l.tally, measured = true;
            else why = "time";
            continue;
        }
        if (l.options.progress && now - before.at >= 1000000) {
            clients_tally(&l, now);
            progress(&l, &before);
            before = l.tally;
        }
        turn(&l, next);
        if (told_to_end) why = "signal";
        /* Clients that hold descriptors are there to hold them. */
        else if (l.stopped == l.options.clients && !l.options.hold_open && !l.options.stall) why = "stopped";
    }
    /* What has come by now counts; what a busy server goes on sending does not keep it here. */
    for (int last = 0; last < LAST_LOOKS && look(&l, 0) > 0; last++) continue;
    clients_tally(&l, now_us());
    if (!begun) from = l.tally;
    if (!measured) until = l.tally;
    if (l.options.storm) clients_judge_open(&l);
    report(stdout, &l, &from, &until, why);
    return fflush(stdout) ? 1 : 0;
}

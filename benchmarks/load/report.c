#include "report.h"

#include <string.h>
#include <sys/resource.h>

#define U(value) ((unsigned long long)(value))

static double per(double amount, double of) { return of > 0 ? amount / of : 0; }

static void counts(FILE *out, const char *name, const struct tally *t, const struct tally *from) {
    fprintf(out,
            "  \"%s\": {\"connections\": %llu, \"requests\": %llu, \"responses\": %llu, \"events\": %llu, "
            "\"blocks\": %llu, \"comments\": %llu, \"bytes\": %llu},\n",
            name, U(t->connections - from->connections), U(t->requests - from->requests),
            U(t->responses - from->responses), U(t->events - from->events), U(t->blocks - from->blocks),
            U(t->comments - from->comments), U(t->bytes - from->bytes));
}

static void numbered(FILE *out, const char *name, const uint64_t *values, int count, bool errors) {
    const char *comma = "";
    fprintf(out, "\"%s\": {", name);
    for (int i = 0; i < count; i++) {
        if (!values[i]) continue;
        const char *word = errors ? strerrorname_np(i) : NULL;
        if (word) fprintf(out, "%s\"%s\": %llu", comma, word, U(values[i]));
        else fprintf(out, "%s\"%d\": %llu", comma, i, U(values[i]));
        comma = ", ";
    }
    fputs("}", out);
}

static void sequence(FILE *out, const struct load *l) {
    uint64_t with_gaps = 0, with_repeats = 0, unseen = 0, behind = 0, lag = 0, most = 0;
    uint64_t first_least = 0, first_most = 0, last_least = 0, last_most = 0;
    for (uint32_t i = 0; i < l->options.clients; i++) {
        const struct client *c = &l->clients[i];
        with_gaps += c->gaps > 0;
        with_repeats += c->repeats > 0;
        uint64_t target = l->options.until_n ? l->options.until_n : l->heads[clients_channel(l, i)];
        if (c->highest < target) {
            behind++;
            lag += target - c->highest;
            if (target - c->highest > most) most = target - c->highest;
        }
        if (!c->first) {
            unseen++;
            continue;
        }
        if (!first_least || c->first < first_least) first_least = c->first;
        if (c->first > first_most) first_most = c->first;
        if (!last_least || c->highest < last_least) last_least = c->highest;
        if (c->highest > last_most) last_most = c->highest;
    }
    fprintf(out,
            "  \"sequence\": {\"gaps\": %llu, \"missing\": %llu, \"gap_events\": %llu, \"repeats\": %llu, "
            "\"clients_with_gaps\": %llu, \"clients_with_repeats\": %llu, \"unnumbered\": %llu, "
            "\"from_the_future\": %llu,\n",
            U(l->gaps), U(l->missing), U(l->gap_events), U(l->repeats), U(with_gaps), U(with_repeats),
            U(l->unnumbered), U(l->from_the_future));
    fprintf(out,
            "    \"first_n\": {\"min\": %llu, \"max\": %llu}, \"last_n\": {\"min\": %llu, \"max\": %llu}, "
            "\"clients_without_event\": %llu,\n",
            U(first_least), U(first_most), U(last_least), U(last_most), U(unseen));
    fprintf(out, "    \"behind\": {\"of\": \"%s\", \"clients\": %llu, \"events\": %llu, \"max\": %llu}},\n",
            l->options.until_n ? "until_n" : "channel_head", U(behind), U(lag), U(most));
}

static void storm(FILE *out, const struct load *l) {
    static const char *names[ANSWERS] = {"unanswered", "stream", "refusal", "503", "other", "failed"};
    fputs("  \"storm\": {", out);
    for (int i = 0; i < ANSWERS; i++)
        fprintf(out, "%s\"%s\": %llu", i ? ", " : "", names[i], U(l->answers[i]));
    fputs(", \"times_ms\": {", out);
    for (int i = ANSWER_STREAM; i < ANSWERS; i++) {
        if (i > ANSWER_STREAM) fputs(", ", out);
        histogram_print(out, names[i], &l->answer_times[i]);
    }
    fputs("}},\n", out);
}

/* getrusage would count what the parent had before the exec. */
static long most_memory_kb(void) {
    FILE *status = fopen("/proc/self/status", "r");
    char line[256];
    long kb = 0;
    while (status && fgets(line, sizeof line, status) && sscanf(line, "VmHWM: %ld", &kb) != 1) continue;
    if (status) fclose(status);
    return kb;
}

void report(FILE *out, struct load *l, const struct tally *from, const struct tally *until, const char *why) {
    static const struct tally nothing;
    double measured = (double)(until->at - from->at) / 1e6;
    double passed = (double)(l->tally.at - l->started) / 1e6;
    struct rusage usage;
    struct rlimit files;
    getrusage(RUSAGE_SELF, &usage);
    getrlimit(RLIMIT_NOFILE, &files);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;

    fprintf(out, "{\n  \"ended\": \"%s\", \"seconds\": %.3f, \"measured_seconds\": %.3f, ", why, passed,
            measured);
    fprintf(out, "\"clients\": %u, \"channels\": %u, \"arrived\": %u, \"stopped\": %u,\n", l->options.clients,
            l->options.channels, l->arrived, l->stopped);
    counts(out, "total", &l->tally, &nothing);
    counts(out, "measured", until, from);
    fprintf(out,
            "  \"per_second\": {\"connections\": %.1f, \"requests\": %.1f, \"responses\": %.1f, "
            "\"events\": %.1f, \"bytes\": %.0f},\n",
            per((double)(until->connections - from->connections), measured),
            per((double)(until->requests - from->requests), measured),
            per((double)(until->responses - from->responses), measured),
            per((double)(until->events - from->events), measured),
            per((double)(until->bytes - from->bytes), measured));
    fputs("  ", out);
    numbered(out, "statuses", l->statuses, STATUSES, false);
    fputs(",\n  \"errors\": {", out);
    numbered(out, "connect", l->connect_errors, ERRNOS, true);
    fputs(", ", out);
    numbered(out, "read", l->read_errors, ERRNOS, true);
    fprintf(out,
            ", \"cut\": %llu, \"unanswered\": %llu, \"bad_http\": %llu, \"not_event_stream\": %llu, "
            "\"cut_lines\": %llu, \"stale_keep_alive\": %llu},\n",
            U(l->cut), U(l->unanswered), U(l->bad_http), U(l->not_event_stream), U(l->cut_lines),
            U(l->stale));
    sequence(out, l);
    fputs("  ", out);
    histogram_print(out, "latency_ms", &l->latency);
    fputs(",\n  ", out);
    histogram_print(out, "first_byte_ms", &l->first_byte);
    fprintf(out,
            ",\n  \"reconnects\": %llu, \"retry_ms\": {\"count\": %llu, \"mean\": %.3f}, "
            "\"wait_ms\": {\"count\": %llu, \"mean\": %.3f},\n",
            U(l->waits), U(l->retries), per(l->retry_ms, (double)l->retries), U(l->waits),
            per(l->wait_us / 1000, (double)l->waits));
    fprintf(out,
            "  \"sockets\": {\"mean\": %.3f, \"max\": %u, \"at_end\": %u, \"left_open_by_server\": %llu}, "
            "\"open_share\": %.5f,\n",
            per(until->socket_us - from->socket_us, measured * 1e6), l->most_sockets, l->sockets,
            U(l->left_open),
            per(until->stream_us - from->stream_us, until->client_us - from->client_us));
    if (l->options.storm) storm(out, l);
    if (l->options.stall || l->options.hold_open) {
        fprintf(out, "  \"held\": {\"ended_by_server\": %llu, \"reset_by_server\": %llu, ",
                U(l->ended_by_server), U(l->reset_by_server));
        histogram_print(out, "reset_after_ms", &l->reclaimed);
        fputs("},\n", out);
    }
    fprintf(out,
            "  \"self\": {\"cpu_seconds\": %.3f, \"busy_share\": %.4f, \"max_rss_kb\": %ld, "
            "\"files\": %llu, ",
            cpu, per(cpu, passed), most_memory_kb(), U(files.rlim_cur));
    histogram_print(out, "lateness_ms", &l->lateness);
    fputs("}\n}\n", out);
}

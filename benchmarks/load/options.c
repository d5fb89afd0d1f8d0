#include "options.h"

#include <arpa/inet.h>
#include <getopt.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char HELP[] =
    "Usage: load --port PORT [options]\n"
    "Follow polled SSE channels with many clients and print one JSON object.\n"
    "\n"
    "Where:\n"
    "  --host ADDRESS       127.0.0.1; nothing outside 127.0.0.0/8 is taken\n"
    "  --port PORT          repeatable (16): connections take the ports in turn\n"
    "  --path TEMPLATE      /events/load.%d/ where %d is the channel's number, %i the client's\n"
    "  --query TEXT         added to the address, such as busy=stream\n"
    "  --header 'NAME: V'   repeatable (16); %d and %i as above\n"
    "  --sources K          0: the kernel's choice; else connect from 127.0.0.2 on, K addresses in turn\n"
    "Who:\n"
    "  --clients N          1; client i follows channel i mod C\n"
    "  --channels C         1\n"
    "  --from WHERE         now, or earliest (?last_event_id=earliest until there is an id)\n"
    "  --ramp SECONDS       0: the clients start spread over this time\n"
    "When:\n"
    "  --seconds S          10: how long figures are taken, the warm-up included\n"
    "  --warmup S           0: not counted in latencies and rates; gaps and repeats always are\n"
    "  --settle S           0: go on after that, so that clients can catch up\n"
    "  --until-n N          the last number of each channel; at the end, who is behind it\n"
    "Waits, in milliseconds:\n"
    "  --retry MS           3000: until the server says `retry:`\n"
    "  --ignore-retry MS    wait so long whatever the server says\n"
    "  --error-retry MS     1000: after a status that is neither 200 nor 204, without Retry-After\n"
    "How:\n"
    "  --keep-alive         use a connection again where the server leaves it open\n"
    "  --stall              send the request and never read; one connection each\n"
    "  --hold-open          read to the end and keep the descriptor; one connection each\n"
    "  --storm              all connect within a second (or --ramp), once, and say how each was answered\n"
    "  --rcvbuf BYTES       SO_RCVBUF\n"
    "  --progress           a line a second on stderr\n";

static _Noreturn void wrong(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void wrong(const char *format, ...) {
    va_list values;
    va_start(values, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, values);
    fputs(" (see --help)\n", stderr);
    va_end(values);
    exit(2);
}

static double number(const char *option, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !isfinite(value) || value < least || value > most)
        wrong("--%s: expected a number from %.0f to %.0f, got '%s'", option, least, most, text);
    return value;
}

static int64_t whole(const char *option, const char *text, int64_t least, int64_t most) {
    double value = number(option, text, (double)least, (double)most);
    if (value != floor(value)) wrong("--%s: expected a whole number, got '%s'", option, text);
    return (int64_t)value;
}

static int64_t duration(const char *option, const char *text) {
    return (int64_t)(number(option, text, 0, 86400) * 1e6);
}

static void check(const struct options *o) {
    if (!o->port_count) wrong("--port is missing");
    if (*o->path != '/') wrong("--path: expected an address that begins with /, got '%s'", o->path);
    if (strpbrk(o->path, " \r\n") || (o->query && strpbrk(o->query, " \r\n")))
        wrong("--path and --query: expected no space and no line end");
    if (o->channels > o->clients) wrong("--channels: more than --clients, some would have no reader");
    if (o->warmup > o->seconds) wrong("--warmup: longer than --seconds");
    if (o->storm + o->stall + o->hold_open + o->keep_alive > 1)
        wrong("--storm, --stall, --hold-open and --keep-alive exclude each other");
}

struct options options_read(int count, char **words) {
    static const struct option known[] = {
        {"host", 1, 0, 'H'},       {"port", 1, 0, 'p'},       {"path", 1, 0, 'a'},
        {"query", 1, 0, 'q'},      {"header", 1, 0, 'h'},     {"sources", 1, 0, 'k'},
        {"clients", 1, 0, 'n'},    {"channels", 1, 0, 'c'},   {"from", 1, 0, 'f'},
        {"ramp", 1, 0, 'R'},       {"seconds", 1, 0, 's'},    {"warmup", 1, 0, 'w'},
        {"settle", 1, 0, 'S'},     {"until-n", 1, 0, 'u'},    {"retry", 1, 0, 'r'},
        {"ignore-retry", 1, 0, 'i'}, {"error-retry", 1, 0, 'e'}, {"rcvbuf", 1, 0, 'b'},
        {"keep-alive", 0, 0, 'A'}, {"stall", 0, 0, 'T'},      {"hold-open", 0, 0, 'O'},
        {"storm", 0, 0, 'M'},      {"progress", 0, 0, 'P'},   {"help", 0, 0, '?'},
        {0, 0, 0, 0},
    };
    struct options o = {
        .path = "/events/load.%d/", .clients = 1, .channels = 1, .seconds = 10000000,
        .retry_ms = 3000, .ignore_retry_ms = -1, .error_retry_ms = 1000,
    };
    bool ramp_given = false;
    inet_aton("127.0.0.1", &o.host);
    opterr = 0;
    for (int option, index = 0; (option = getopt_long(count, words, "", known, &index)) != -1;) {
        const char *name = known[index].name;
        switch (option) {
        case 'H':
            if (!inet_aton(optarg, &o.host) || ntohl(o.host.s_addr) >> 24 != 127)
                wrong("--host: expected an address in 127.0.0.0/8, got '%s'", optarg);
            break;
        case 'p':
            if (o.port_count == OPTIONS_LIST) wrong("--port: more than %d", OPTIONS_LIST);
            o.ports[o.port_count++] = (uint16_t)whole(name, optarg, 1, 65535);
            break;
        case 'h':
            if (o.header_count == OPTIONS_LIST) wrong("--header: more than %d", OPTIONS_LIST);
            if (!strchr(optarg, ':') || strpbrk(optarg, "\r\n"))
                wrong("--header: expected 'Name: value', got '%s'", optarg);
            o.headers[o.header_count++] = optarg;
            break;
        case 'f':
            if (strcmp(optarg, "now") && strcmp(optarg, "earliest"))
                wrong("--from: expected now or earliest, got '%s'", optarg);
            o.from_earliest = *optarg == 'e';
            break;
        case 'a': o.path = optarg; break;
        case 'q': o.query = optarg; break;
        case 'k': o.sources = (uint32_t)whole(name, optarg, 0, 253); break;
        case 'n': o.clients = (uint32_t)whole(name, optarg, 1, 1000000); break;
        case 'c': o.channels = (uint32_t)whole(name, optarg, 1, 1000000); break;
        case 'R': o.ramp = duration(name, optarg), ramp_given = true; break;
        case 's': o.seconds = duration(name, optarg); break;
        case 'w': o.warmup = duration(name, optarg); break;
        case 'S': o.settle = duration(name, optarg); break;
        case 'u': o.until_n = (uint64_t)whole(name, optarg, 1, 1000000000000); break;
        case 'r': o.retry_ms = whole(name, optarg, 0, 86400000); break;
        case 'i': o.ignore_retry_ms = whole(name, optarg, 0, 86400000); break;
        case 'e': o.error_retry_ms = whole(name, optarg, 0, 86400000); break;
        case 'b': o.rcvbuf = (int)whole(name, optarg, 1, 1 << 30); break;
        case 'A': o.keep_alive = true; break;
        case 'T': o.stall = true; break;
        case 'O': o.hold_open = true; break;
        case 'M': o.storm = true; break;
        case 'P': o.progress = true; break;
        default:
            if (!strcmp(words[optind - 1], "--help")) {
                fputs(HELP, stdout);
                exit(0);
            }
            wrong("'%s' is not known, or has no value", words[optind - 1]);
        }
    }
    if (optind < count) wrong("'%s': expected options only", words[optind]);
    if (o.storm && (!ramp_given || o.ramp > 1000000)) o.ramp = 1000000;
    check(&o);
    return o;
}

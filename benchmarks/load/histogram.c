#include "histogram.h"

#include <math.h>

#define LOWEST_MS 0.1
#define GROWTH 1.01

void histogram_add(struct histogram *h, int64_t us) {
    double ms = us > 0 ? (double)us / 1000 : 0;
    int bucket = ms <= LOWEST_MS ? 0 : (int)(log(ms / LOWEST_MS) / log(GROWTH)) + 1;
    h->buckets[bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1]++;
    if (h->count == 0 || ms < h->min_ms) h->min_ms = ms;
    if (h->count == 0 || ms > h->max_ms) h->max_ms = ms;
    h->sum_ms += ms;
    h->count++;
}

double histogram_percentile(const struct histogram *h, double share) {
    /* The smallest duration that at least this share of all does not exceed. */
    uint64_t rank = (uint64_t)ceil(share * (double)h->count), seen = 0;
    int bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS - 1 && (seen += h->buckets[bucket]) < rank) bucket++;
    double middle = bucket ? LOWEST_MS * pow(GROWTH, bucket - 0.5) : LOWEST_MS;
    return fmin(fmax(middle, h->min_ms), h->max_ms);
}

void histogram_print(FILE *out, const char *name, const struct histogram *h) {
    if (h->count == 0) {
        fprintf(out, "\"%s\": null", name);
        return;
    }
    static const struct { const char *name; double share; } shown[] = {
        {"p50", 0.5}, {"p75", 0.75}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99},
    };
    fprintf(out, "\"%s\": {\"count\": %llu, \"mean\": %.3f, \"min\": %.3f", name,
            (unsigned long long)h->count, h->sum_ms / (double)h->count, h->min_ms);
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++)
        fprintf(out, ", \"%s\": %.3f", shown[i].name, histogram_percentile(h, shown[i].share));
    fprintf(out, ", \"max\": %.3f}", h->max_ms);
}

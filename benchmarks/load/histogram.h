/* Durations counted in buckets that grow by 1 %: bounded memory, percentiles to about 1 %. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

/* 0.1 ms to 600 s: ln(6e6) / ln(1.01) is 1569. What is outside goes to the first or last bucket. */
#define HISTOGRAM_BUCKETS 1572

struct histogram {
    uint64_t count;
    uint64_t buckets[HISTOGRAM_BUCKETS];
    double sum_ms, min_ms, max_ms;
};

void histogram_add(struct histogram *h, int64_t us);
double histogram_percentile(const struct histogram *h, double share);
/* Print `"name": {...}` with milliseconds; null where nothing was counted. */
void histogram_print(FILE *out, const char *name, const struct histogram *h);

#endif

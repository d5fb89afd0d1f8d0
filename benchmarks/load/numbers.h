/* What the producer wrote at the beginning of an event's data: its number and its time. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdbool.h>
#include <stdint.h>

/* Read `{"n":1,"at":12.5` from a string, with spaces where JSON allows them; `at` in microseconds. */
bool numbers_read(const char *data, uint64_t *n, int64_t *at);

#endif

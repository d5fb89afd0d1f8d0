/* What is said at the end: one JSON object. */
#ifndef REPORT_H
#define REPORT_H

#include "client.h"

void report(FILE *out, struct load *l, const struct tally *from, const struct tally *until, const char *why);

#endif

/* Sums of products of codes with the weights of four filters. */
#ifndef CAMPANA_DOT_H
#define CAMPANA_DOT_H

#include <stdint.h>

#include "campana_kernels.h"

#define CAMPANA_FILTERS 4

/* Where the taps of a window lie: runs of elements that follow each other. */
typedef struct {
    uint32_t count, len, across;
    int32_t down_stride, across_stride;
} campana_runs;

/* Decodes the weights of some filters, at most four, from one row on, as
 * campana_dot reads them; aligned as words. There is room for 8 bytes of each
 * weight, runs rounded up to a multiple of four, or 4 bytes, runs rounded up to a
 * multiple of sixteen, and for a row. */
void campana_decode_filters(const campana_weights *weights, uint32_t first, uint32_t count,
                            const campana_runs *runs, int8_t *decoded);

/* Pixels whose sums are computed at once. */
#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
#define CAMPANA_PIXELS 2
#else
#define CAMPANA_PIXELS 1
#endif

/* The sums of the four filters over one window, and where two pixels are computed at
 * once then those over the window at the next, which may be the same. Up to three
 * elements behind each run may be read. */
void campana_dot(const int8_t *input, const int8_t *next, const int8_t *decoded,
                 const campana_runs *runs, int32_t *sums);

#endif

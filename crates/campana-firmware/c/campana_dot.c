#include "campana_dot.h"

#include <string.h>

#include "campana_weights.h"

#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
#include <arm_mve.h>
#elif defined(__ARM_FEATURE_DSP) && !defined(CAMPANA_PORTABLE)
#define USES_PAIRS 1
#endif

static const int8_t *run_at(const int8_t *input, const campana_runs *runs, uint32_t run)
{
    if (runs->across == 1) {
        return input + (int32_t)run * runs->down_stride;
    }
    return input + (int32_t)(run / runs->across) * runs->down_stride +
           (int32_t)(run % runs->across) * runs->across_stride;
}

#ifdef USES_PAIRS

/* Weights as pairs of 16 bits: of each four, the first and the third, then the
 * second and the fourth, as two instructions unpack four codes; four of one filter,
 * then four of the next. */
void campana_decode_filters(const campana_weights *weights, uint32_t first, uint32_t count,
                            const campana_runs *runs, int8_t *decoded)
{
    const uint32_t fours = (runs->len + 3) / 4;
    int8_t *row = decoded + (size_t)runs->count * fours * 4 * CAMPANA_FILTERS * 2;
    uint32_t filter, run, i, k;
    for (filter = 0; filter < CAMPANA_FILTERS; filter++) {
        int16_t *to = (int16_t *)(void *)decoded + 4 * filter;
        const int8_t *from = row;
        if (filter < count) {
            campana_decode_row(weights, first + filter, runs->count * runs->len, row);
        } else {
            memset(row, 0, runs->count * runs->len);
        }
        for (run = 0; run < runs->count; run++, from += runs->len) {
            for (i = 0; i + 4 <= runs->len; i += 4, to += 4 * CAMPANA_FILTERS) {
                to[0] = from[i];
                to[1] = from[i + 2];
                to[2] = from[i + 1];
                to[3] = from[i + 3];
            }
            if (i < runs->len) {
                int16_t last[4] = {0, 0, 0, 0};
                for (k = 0; i + k < runs->len; k++) {
                    last[k] = from[i + k];
                }
                to[0] = last[0];
                to[1] = last[2];
                to[2] = last[1];
                to[3] = last[3];
                to += 4 * CAMPANA_FILTERS;
            }
        }
    }
}

void campana_dot(const int8_t *input, const int8_t *decoded, const campana_runs *runs,
                 int32_t *sums)
{
    const int8_t *weights = decoded;
    int32_t a = 0, b = 0, c = 0, d = 0;
    uint32_t run;
    for (run = 0; run < runs->count; run++) {
        const int8_t *from = run_at(input, runs, run);
        uint32_t fours = (runs->len + 3) / 4;
        /* Sixteen products from one word of codes and eight of weights. */
        __asm__("1:\n\t"
                "ldr r10, [%[from]], #4\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "sxtb16 r9, r10\n\t"
                "sxtb16 r10, r10, ror #8\n\t"
                "smlad %[a], r9, r4, %[a]\n\t"
                "smlad %[a], r10, r5, %[a]\n\t"
                "smlad %[b], r9, r6, %[b]\n\t"
                "smlad %[b], r10, r8, %[b]\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "subs %[fours], %[fours], #1\n\t"
                "smlad %[c], r9, r4, %[c]\n\t"
                "smlad %[c], r10, r5, %[c]\n\t"
                "smlad %[d], r9, r6, %[d]\n\t"
                "smlad %[d], r10, r8, %[d]\n\t"
                "bne 1b"
                : [from] "+r"(from), [weights] "+r"(weights), [fours] "+r"(fours), [a] "+r"(a),
                  [b] "+r"(b), [c] "+r"(c), [d] "+r"(d)
                :
                : "r4", "r5", "r6", "r8", "r9", "r10", "cc", "memory");
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

#else

/* Weights as they are, one filter after another. */
void campana_decode_filters(const campana_weights *weights, uint32_t first, uint32_t count,
                            const campana_runs *runs, int8_t *decoded)
{
    const uint32_t len = runs->count * runs->len;
    uint32_t filter;
    for (filter = 0; filter < count; filter++) {
        campana_decode_row(weights, first + filter, len, decoded + (size_t)filter * len);
    }
    memset(decoded + (size_t)count * len, 0, (size_t)(CAMPANA_FILTERS - count) * len);
}

#ifdef __ARM_FEATURE_MVE

void campana_dot(const int8_t *input, const int8_t *decoded, const campana_runs *runs,
                 int32_t *sums)
{
    const size_t row = (size_t)runs->count * runs->len;
    int32_t a = 0, b = 0, c = 0, d = 0;
    uint32_t run;
    for (run = 0; run < runs->count; run++, decoded += runs->len) {
        const int8_t *from = run_at(input, runs, run), *weights = decoded;
        int32_t left;
        for (left = (int32_t)runs->len; left > 0; left -= 16, from += 16, weights += 16) {
            const mve_pred16_t some = vctp8q((uint32_t)left);
            const int8x16_t codes = vldrbq_z_s8(from, some);
            a = vmladavaq_s8(a, codes, vldrbq_z_s8(weights, some));
            b = vmladavaq_s8(b, codes, vldrbq_z_s8(weights + row, some));
            c = vmladavaq_s8(c, codes, vldrbq_z_s8(weights + 2 * row, some));
            d = vmladavaq_s8(d, codes, vldrbq_z_s8(weights + 3 * row, some));
        }
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
}

#else

static int32_t dot_of_run(const int8_t *codes, const int8_t *weights, uint32_t len)
{
    int32_t sum = 0;
    uint32_t i;
    for (i = 0; i < len; i++) {
        sum += codes[i] * weights[i];
    }
    return sum;
}

void campana_dot(const int8_t *input, const int8_t *decoded, const campana_runs *runs,
                 int32_t *sums)
{
    const size_t row = (size_t)runs->count * runs->len;
    uint32_t filter, run;
    memset(sums, 0, CAMPANA_FILTERS * sizeof *sums);
    for (run = 0; run < runs->count; run++, decoded += runs->len) {
        const int8_t *from = run_at(input, runs, run);
        for (filter = 0; filter < CAMPANA_FILTERS; filter++) {
            sums[filter] += dot_of_run(from, decoded + filter * row, runs->len);
        }
    }
}

#endif

#endif

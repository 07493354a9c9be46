#include "campana_dot.h"

#include <string.h>

#include "campana_weights.h"

#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
#include <arm_mve.h>
#define USES_VECTORS 1
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

/* Words between fours of one filter: others' lie between them. */
#define STEP (2 * CAMPANA_FILTERS)

static uint32_t pair(int32_t low, int32_t high)
{
    return ((uint32_t)low & UINT32_C(0xffff)) | (uint32_t)high << 16;
}

/* Weights as pairs of 16 bits: of each four, the first and the third, then the
 * second and the fourth, as two instructions unpack four codes. */
static void pairs_of_bytes(const int8_t *from, uint32_t fours, uint32_t *to)
{
    for (; fours > 0; fours--, from += 4, to += STEP) {
        uint32_t four;
        memcpy(&four, from, 4);
        __asm__("sxtb16 %0, %1" : "=r"(to[0]) : "r"(four));
        __asm__("sxtb16 %0, %1, ror #8" : "=r"(to[1]) : "r"(four));
    }
}

/* The same of codes of four bits, from a whole byte on. */
static void pairs_of_codes(const uint8_t *codes, const int8_t *levels, uint32_t fours,
                           uint32_t *to)
{
    for (; fours > 0; fours--, codes += 2, to += STEP) {
        uint16_t four;
        memcpy(&four, codes, 2);
        to[0] = pair(levels[four & 15], levels[four >> 8 & 15]);
        to[1] = pair(levels[four >> 4 & 15], levels[four >> 12]);
    }
}

/* A row by way of bytes, whose runs need not be whole fours. */
static void decode_by_bytes(const campana_weights *weights, uint32_t filter,
                            const campana_runs *runs, int8_t *row, uint32_t *to)
{
    const uint32_t whole = runs->len / 4, rest = runs->len % 4;
    uint32_t run;
    campana_decode_row(weights, filter, runs->count * runs->len, row);
    for (run = 0; run < runs->count; run++, row += runs->len) {
        pairs_of_bytes(row, whole, to);
        to += whole * STEP;
        if (rest > 0) {
            int8_t last[4] = {0, 0, 0, 0};
            memcpy(last, row + 4 * whole, rest);
            pairs_of_bytes(last, 1, to);
            to += STEP;
        }
    }
}

/* Fours of one filter, then of the next, after which the first goes on. */
void campana_decode_filters(const campana_weights *weights, uint32_t first, uint32_t count,
                            const campana_runs *runs, int8_t *decoded)
{
    const uint32_t fours = runs->count * ((runs->len + 3) / 4);
    int8_t *row = decoded + (size_t)fours * STEP * 4;
    uint32_t filter, i;
    for (filter = 0; filter < CAMPANA_FILTERS; filter++) {
        uint32_t *to = (uint32_t *)(void *)decoded + 2 * filter;
        const uint8_t *codes = weights->codes + (size_t)(first + filter) * weights->row_bytes;
        if (filter >= count) {
            for (i = 0; i < fours; i++) {
                to[STEP * i] = 0;
                to[STEP * i + 1] = 0;
            }
        } else if (weights->bits == 4 && runs->len % 4 == 0) {
            const size_t levels = (size_t)(first + filter) * weights->level_stride;
            pairs_of_codes(codes, weights->levels + levels, fours, to);
        } else if (weights->bits == 8 && runs->len % 4 == 0) {
            pairs_of_bytes((const int8_t *)codes, fours, to);
        } else {
            decode_by_bytes(weights, first + filter, runs, row, to);
        }
    }
}

void campana_dot(const int8_t *input, const int8_t *next, const int8_t *decoded,
                 const campana_runs *runs, int32_t *sums)
{
    const int8_t *weights = decoded;
    int32_t a = 0, b = 0, c = 0, d = 0;
    uint32_t run;
    (void)next;
    for (run = 0; run < runs->count; run++) {
        const int8_t *from = run_at(input, runs, run);
        uint32_t fours = (runs->len + 3) / 4;
        /* Sixteen products from one word of codes and eight of weights, twice, where
         * there are two. */
        __asm__("lsrs %[fours], %[fours], #1\n\t"
                "bcc 2f\n\t"
                "ldr r10, [%[from]], #4\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "sxtb16 r9, r10\n\t"
                "sxtb16 r10, r10, ror #8\n\t"
                "smlad %[a], r9, r4, %[a]\n\t"
                "smlad %[a], r10, r5, %[a]\n\t"
                "smlad %[b], r9, r6, %[b]\n\t"
                "smlad %[b], r10, r8, %[b]\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "smlad %[c], r9, r4, %[c]\n\t"
                "smlad %[c], r10, r5, %[c]\n\t"
                "smlad %[d], r9, r6, %[d]\n\t"
                "smlad %[d], r10, r8, %[d]\n\t"
                "cbz %[fours], 3f\n\t"
                "2:\n\t"
                "ldr r10, [%[from]], #4\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "sxtb16 r9, r10\n\t"
                "sxtb16 r10, r10, ror #8\n\t"
                "smlad %[a], r9, r4, %[a]\n\t"
                "smlad %[a], r10, r5, %[a]\n\t"
                "smlad %[b], r9, r6, %[b]\n\t"
                "smlad %[b], r10, r8, %[b]\n\t"
                "ldmia %[weights]!, {r4, r5, r6, r8}\n\t"
                "smlad %[c], r9, r4, %[c]\n\t"
                "smlad %[c], r10, r5, %[c]\n\t"
                "smlad %[d], r9, r6, %[d]\n\t"
                "smlad %[d], r10, r8, %[d]\n\t"
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
                "bne 2b\n\t"
                "3:"
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

#elif defined(USES_VECTORS)

/* Sixteen codes of four bits as bytes. */
static uint8x16_t bytes_of_codes(const uint8_t *codes)
{
    const uint16x8_t pairs = vldrbq_u16(codes);
    const uint16x8_t low = vandq_u16(pairs, vdupq_n_u16(15));
    const uint16x8_t high = vandq_u16(vshlq_n_u16(pairs, 4), vdupq_n_u16(0xf00));
    return vreinterpretq_u8_u16(vorrq_u16(low, high));
}

/* Sixteen weights of one filter, then of the next, after which the first goes on;
 * zeros behind each run. */
void campana_decode_filters(const campana_weights *weights, uint32_t first, uint32_t count,
                            const campana_runs *runs, int8_t *decoded)
{
    const uint32_t steps = (runs->len + 15) / 16;
    int8_t *row = decoded + (size_t)runs->count * steps * 16 * CAMPANA_FILTERS;
    uint32_t filter, run, step;
    for (filter = 0; filter < CAMPANA_FILTERS; filter++) {
        const uint8_t *codes = weights->codes + (size_t)(first + filter) * weights->row_bytes;
        const int8_t *levels =
            weights->levels + (size_t)(first + filter) * weights->level_stride;
        const int is_direct = weights->bits == 4 && runs->len % 16 == 0 && filter < count;
        const int8_t *from = row;
        int8_t *to = decoded + 16 * filter;
        if (filter >= count) {
            memset(row, 0, runs->count * runs->len);
        } else if (!is_direct) {
            campana_decode_row(weights, first + filter, runs->count * runs->len, row);
        }
        for (run = 0; run < runs->count; run++) {
            uint32_t left = runs->len;
            for (step = 0; step < steps; step++, to += 16 * CAMPANA_FILTERS, codes += 8) {
                const uint32_t some = left < 16 ? left : 16;
                vstrbq_s8(to, is_direct ? vldrbq_gather_offset_s8(levels, bytes_of_codes(codes))
                                        : vldrbq_z_s8(from, vctp8q(some)));
                from += some;
                left -= some;
            }
        }
    }
}

/* Two pixels, the weights of four filters for both, and eight sums. */
typedef struct {
    const int8_t *from[2], *weights;
    uint32_t steps;
    int32_t sums[2 * CAMPANA_FILTERS];
    uint32_t runs;
    /* From the end of a run to the next one. */
    int32_t gap;
} two_pixels;

/* In each step of each run, 128 products: of 16 codes of two pixels with the weights
 * of four filters. Sums are in registers of even numbers, as the instruction wants
 * them. */
static void multiply_runs(two_pixels *both)
{
    register two_pixels *at __asm__("r1") = both;
    __asm__ volatile("ldrd r3, r5, [r1]\n\t"
                     "ldr r9, [r1, #8]\n\t"
                     "ldrd r0, r2, [r1, #16]\n\t"
                     "ldrd r4, r6, [r1, #24]\n\t"
                     "ldrd r8, r10, [r1, #32]\n\t"
                     "ldrd r12, lr, [r1, #40]\n\t"
                     "1:\n\t"
                     "ldr r11, [r1, #12]\n\t"
                     "2:\n\t"
                     "vldrb.8 q0, [r3], #16\n\t"
                     "vldrb.8 q2, [r9], #16\n\t"
                     "vldrb.8 q1, [r5], #16\n\t"
                     "vmladava.s8 r0, q0, q2\n\t"
                     "vmladava.s8 r8, q1, q2\n\t"
                     "vldrb.8 q3, [r9], #16\n\t"
                     "vmladava.s8 r2, q0, q3\n\t"
                     "vmladava.s8 r10, q1, q3\n\t"
                     "vldrb.8 q2, [r9], #16\n\t"
                     "vmladava.s8 r4, q0, q2\n\t"
                     "vmladava.s8 r12, q1, q2\n\t"
                     "vldrb.8 q3, [r9], #16\n\t"
                     "subs r11, r11, #1\n\t"
                     "vmladava.s8 r6, q0, q3\n\t"
                     "vmladava.s8 lr, q1, q3\n\t"
                     "bne 2b\n\t"
                     "ldr r11, [r1, #52]\n\t"
                     "add r3, r3, r11\n\t"
                     "add r5, r5, r11\n\t"
                     "ldr r11, [r1, #48]\n\t"
                     "subs r11, r11, #1\n\t"
                     "str r11, [r1, #48]\n\t"
                     "bne 1b\n\t"
                     "strd r0, r2, [r1, #16]\n\t"
                     "strd r4, r6, [r1, #24]\n\t"
                     "strd r8, r10, [r1, #32]\n\t"
                     "strd r12, lr, [r1, #40]"
                     :
                     : "r"(at)
                     : "r0", "r2", "r3", "r4", "r5", "r6", "r8", "r9", "r10", "r11", "r12", "lr",
                       "q0", "q1", "q2", "q3", "cc", "memory");
}

/* Runs that are no whole steps, or lie in more than one row of runs. */
static void dot_by_runs(const int8_t *input, const int8_t *next, const int8_t *decoded,
                        const campana_runs *runs, int32_t *sums)
{
    uint32_t run, filter, at;
    for (run = 0; run < runs->count; run++) {
        const int8_t *first = run_at(input, runs, run);
        const int8_t *second = run_at(next, runs, run);
        for (at = 0; at < runs->len; at += 16) {
            const mve_pred16_t some = vctp8q(runs->len - at);
            const int8x16_t a = vldrbq_z_s8(first + at, some);
            const int8x16_t b = vldrbq_z_s8(second + at, some);
            for (filter = 0; filter < CAMPANA_FILTERS; filter++, decoded += 16) {
                const int8x16_t weights = vldrbq_s8(decoded);
                sums[filter] = vmladavaq_s8(sums[filter], a, weights);
                sums[CAMPANA_FILTERS + filter] =
                    vmladavaq_s8(sums[CAMPANA_FILTERS + filter], b, weights);
            }
        }
    }
}

void campana_dot(const int8_t *input, const int8_t *next, const int8_t *decoded,
                 const campana_runs *runs, int32_t *sums)
{
    two_pixels both;
    vstrwq_s32(both.sums, vdupq_n_s32(0));
    vstrwq_s32(both.sums + 4, vdupq_n_s32(0));
    if (runs->across == 1 && runs->len % 16 == 0) {
        both.from[0] = input;
        both.from[1] = next;
        both.weights = decoded;
        both.steps = runs->len / 16;
        both.runs = runs->count;
        both.gap = runs->down_stride - (int32_t)runs->len;
        multiply_runs(&both);
    } else {
        dot_by_runs(input, next, decoded, runs, both.sums);
    }
    vstrwq_s32(sums, vldrwq_s32(both.sums));
    vstrwq_s32(sums + 4, vldrwq_s32(both.sums + 4));
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

static int32_t dot_of_run(const int8_t *codes, const int8_t *weights, uint32_t len)
{
    int32_t sum = 0;
    uint32_t i;
    for (i = 0; i < len; i++) {
        sum += codes[i] * weights[i];
    }
    return sum;
}

void campana_dot(const int8_t *input, const int8_t *next, const int8_t *decoded,
                 const campana_runs *runs, int32_t *sums)
{
    const size_t row = (size_t)runs->count * runs->len;
    uint32_t filter, run;
    (void)next;
    memset(sums, 0, CAMPANA_FILTERS * sizeof *sums);
    for (run = 0; run < runs->count; run++, decoded += runs->len) {
        const int8_t *from = run_at(input, runs, run);
        for (filter = 0; filter < CAMPANA_FILTERS; filter++) {
            sums[filter] += dot_of_run(from, decoded + filter * row, runs->len);
        }
    }
}

#endif

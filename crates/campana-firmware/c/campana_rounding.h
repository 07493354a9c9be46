/* From sums to codes. */
#ifndef CAMPANA_ROUNDING_H
#define CAMPANA_ROUNDING_H

#include <string.h>

#include "campana_float.h"
#include "campana_kernels.h"

/* The upper half of a product. Shifts of negative numbers keep the sign with
 * every compiler that there is for these processors. */
static inline int32_t campana_mul_high(int32_t a, int32_t b)
{
    return (int32_t)((int64_t)a * b >> 32);
}

/* Codes of 0 to 255 as multipliers take them. */
#define CAMPANA_CODE_SHIFT 23

static inline int32_t campana_clamp(int32_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Whether a fixed-point number is so near to the middle between two integers
 * that what it stands for may be on the other side. */
static inline int campana_is_near(int32_t fixed, int32_t fraction_bits, int32_t tolerance)
{
    const uint32_t half = UINT32_C(1) << (fraction_bits - 1);
    const uint32_t mask = (half << 1) - 1;
    return (((uint32_t)fixed + half + (uint32_t)tolerance) & mask) <= 2 * (uint32_t)tolerance;
}

/* The nearest integer. */
static inline int32_t campana_nearest(int32_t fixed, int32_t fraction_bits)
{
    return (fixed + ((int32_t)1 << (fraction_bits - 1))) >> fraction_bits;
}

/* A channel's result in the arithmetic of float32; residual is a code of 0 to
 * 255, or below 0 for none. */
uint32_t campana_float_result(const campana_rounding *rounding, uint32_t channel, int32_t sum,
                              int32_t residual);

/* Stores the bits of a float where a caller has floats. */
static inline void campana_store_float(uint32_t bits, void *output, uint32_t place)
{
    memcpy((uint8_t *)output + 4 * (size_t)place, &bits, 4);
}

/* Pixels that follow each other: how many elements of the output, and how many sums
 * are from one to the next. */
typedef struct {
    uint32_t count, stride, sum_stride;
} campana_pixels;

/* Stores the results of the sums of channels from one on, of some pixels, from a
 * place of the output on. */
void campana_store(const campana_product *layer, uint32_t first, uint32_t count,
                   campana_pixels pixels, const int32_t *sums, const int8_t *residual,
                   void *output, uint32_t place);

#endif

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

/* The code of a channel's sum, 0 to 255. */
static inline int32_t campana_code_of_sum(const campana_rounding *rounding, uint32_t channel,
                                          int32_t sum, int32_t residual)
{
    const campana_channel *own = &rounding->channels[channel];
    const int32_t fraction_bits = rounding->fraction_bits;
    int32_t fixed;
    sum += own->initial;
    fixed = campana_mul_high(sum * ((int32_t)1 << rounding->sum_shift), own->multiplier) +
            own->offset;
    if (residual >= 0) {
        fixed += campana_mul_high(residual * ((int32_t)1 << CAMPANA_CODE_SHIFT),
                                  rounding->residual_multiplier);
    }
    if (campana_is_near(fixed, fraction_bits, rounding->tolerance)) {
        const uint32_t result = campana_float_result(rounding, channel, sum, residual);
        return campana_float_to_code(result, (int32_t)rounding->low, (int32_t)rounding->high);
    }
    return campana_clamp(campana_nearest(fixed, fraction_bits), (int32_t)rounding->low,
                         (int32_t)rounding->high);
}

/* Stores the bits of a float where a caller has floats. */
static inline void campana_store_float(uint32_t bits, void *output, uint32_t place)
{
    memcpy((uint8_t *)output + 4 * (size_t)place, &bits, 4);
}

/* Stores a channel's result at a place of the output. */
static inline void campana_store(const campana_product *layer, uint32_t channel, int32_t sum,
                                 const int8_t *residual, void *output, uint32_t place)
{
    const campana_rounding *rounding = &layer->rounding;
    const int32_t code = residual ? residual[place] + 128 : -1;
    if (layer->gives_floats) {
        const int32_t whole = sum + rounding->channels[channel].initial;
        const uint32_t result = campana_float_result(rounding, channel, whole, code);
        campana_store_float(campana_float_clamp(result, rounding->low, rounding->high), output,
                            place);
    } else {
        ((int8_t *)output)[place] =
            (int8_t)(campana_code_of_sum(rounding, channel, sum, code) - 128);
    }
}

#endif

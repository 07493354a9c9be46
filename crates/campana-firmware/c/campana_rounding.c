#include "campana_rounding.h"

uint32_t campana_float_result(const campana_rounding *rounding, uint32_t channel, int32_t sum,
                              int32_t residual)
{
    const campana_channel *own = &rounding->channels[channel];
    const uint8_t is_biased =
        rounding->biased ? rounding->biased[channel] : rounding->is_biased;
    /* A biased sum is smaller than half the bias: its bits are those of the
     * float that is as much larger. */
    const uint32_t value = is_biased ? (uint32_t)((int32_t)CAMPANA_FLOAT_BIAS + sum)
                                     : campana_float_of_int(sum);
    uint32_t result = campana_float_fma(value, own->float_multiplier, own->float_offset);
    if (residual >= 0) {
        result =
            campana_float_fma(campana_float_of_int(residual), rounding->float_residual, result);
    }
    if (rounding->float_inverse_scale != CAMPANA_FLOAT_ZERO) {
        result = campana_float_add(campana_float_mul(result, rounding->float_inverse_scale),
                                   rounding->float_zero_point);
    }
    return result;
}

/* Where the fixed-point result does not say the code. */
static int32_t exact_code(const campana_rounding *rounding, uint32_t channel, int32_t sum,
                          int32_t residual)
{
    const uint32_t result = campana_float_result(rounding, channel, sum, residual);
    return campana_float_to_code(result, rounding->low + 128, rounding->high + 128) - 128;
}

static void store_codes(const campana_rounding *rounding, uint32_t first, uint32_t count,
                        const int32_t *sums, const int8_t *residual, int8_t *output)
{
    const campana_channel *own = rounding->channels + first;
    const int32_t fraction_bits = rounding->fraction_bits, sum_shift = rounding->sum_shift;
    const int32_t factor = rounding->residual_multiplier;
    const int32_t low = rounding->low, high = rounding->high;
    const uint32_t mask = (UINT32_C(1) << fraction_bits) - 1;
    const uint32_t near = 2 * (uint32_t)rounding->tolerance;
    uint32_t i;
    for (i = 0; i < count; i++, own++) {
        const int32_t sum = sums[i] + own->initial;
        int32_t fixed = campana_mul_high((int32_t)((uint32_t)sum << sum_shift), own->multiplier) +
                        own->offset;
        int32_t code = -1;
        if (residual) {
            code = residual[i] + 128;
            fixed += campana_mul_high((int32_t)((uint32_t)code << CAMPANA_CODE_SHIFT), factor);
        }
        if (((uint32_t)fixed & mask) <= near) {
            code = exact_code(rounding, first + i, sum, code);
        } else {
            code = campana_clamp(fixed >> fraction_bits, low, high);
        }
        output[i] = (int8_t)code;
    }
}

void campana_store(const campana_product *layer, uint32_t first, uint32_t count,
                   const int32_t *sums, const int8_t *residual, void *output, uint32_t place)
{
    const campana_rounding *rounding = &layer->rounding;
    uint32_t i;
    residual = residual ? residual + place : residual;
    if (!layer->gives_floats) {
        store_codes(rounding, first, count, sums, residual, (int8_t *)output + place);
        return;
    }
    for (i = 0; i < count; i++) {
        const int32_t sum = sums[i] + rounding->channels[first + i].initial;
        const uint32_t result =
            campana_float_result(rounding, first + i, sum, residual ? residual[i] + 128 : -1);
        campana_store_float(
            campana_float_clamp(result, rounding->float_low, rounding->float_high), output,
            place + i);
    }
}

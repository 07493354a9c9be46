#include "campana_rounding.h"

#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
#include <arm_mve.h>
#endif

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

#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)

/* Four channels at once; whether all of them are far enough from the middle between
 * two codes. */
static int store_four(const campana_rounding *rounding, uint32_t first, const int32_t *sums,
                      const int8_t *residual, int8_t *output)
{
    const uint32x4_t channels = vidupq_n_u32(0, 1);
    const uint32x4_t places = vmulq_n_u32(channels, sizeof(campana_channel));
    const campana_channel *own = rounding->channels + first;
    const int32_t mask = (int32_t)((UINT32_C(1) << rounding->fraction_bits) - 1);
    int32x4_t fixed = vaddq_s32(vldrwq_s32(sums),
                                vldrwq_gather_offset_s32(&own->initial, places));
    fixed = vmulhq_s32(vshlq_r_s32(fixed, rounding->sum_shift),
                       vldrwq_gather_offset_s32(&own->multiplier, places));
    fixed = vaddq_s32(fixed, vldrwq_gather_offset_s32(&own->offset, places));
    if (residual) {
        const int32x4_t codes = vshlq_n_s32(vaddq_n_s32(vldrbq_s32(residual), 128), 23);
        fixed = vaddq_s32(fixed, vmulhq_s32(codes, vdupq_n_s32(rounding->residual_multiplier)));
    }
    if (vcmpleq_n_s32(vandq_s32(fixed, vdupq_n_s32(mask)), 2 * rounding->tolerance)) {
        return 0;
    }
    fixed = vshlq_r_s32(fixed, -(int32_t)rounding->fraction_bits);
    fixed = vmaxq_s32(vminq_s32(fixed, vdupq_n_s32(rounding->high)), vdupq_n_s32(rounding->low));
    vstrbq_s32(output, fixed);
    return 1;
}

#endif

static void store_codes(const campana_rounding *rounding, uint32_t first, uint32_t count,
                        const int32_t *sums, const int8_t *residual, int8_t *output)
{
    const campana_channel *own = rounding->channels + first;
    const int32_t fraction_bits = rounding->fraction_bits, sum_shift = rounding->sum_shift;
    const int32_t factor = rounding->residual_multiplier;
    const int32_t low = rounding->low, high = rounding->high;
    const uint32_t mask = (UINT32_C(1) << fraction_bits) - 1;
    const uint32_t near = 2 * (uint32_t)rounding->tolerance;
    uint32_t i = 0;
#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
    while (i + 4 <= count && store_four(rounding, first + i, sums + i,
                                        residual ? residual + i : residual, output + i)) {
        i += 4;
        own += 4;
    }
#endif
    for (; i < count; i++, own++) {
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

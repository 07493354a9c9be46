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

/* The result of a channel for each of some pixels. */
static void store_channel(const campana_rounding *rounding, uint32_t channel,
                          const campana_pixels *pixels, const int32_t *sums,
                          const int8_t *residual, int8_t *output)
{
    const campana_channel own = rounding->channels[channel];
    const int32_t fraction_bits = rounding->fraction_bits, sum_shift = rounding->sum_shift;
    const int32_t factor = rounding->residual_multiplier;
    const int32_t low = rounding->low, high = rounding->high;
    const uint32_t mask = (UINT32_C(1) << fraction_bits) - 1;
    const uint32_t near = 2 * (uint32_t)rounding->tolerance;
    uint32_t i;
    for (i = 0; i < pixels->count; i++) {
        const int32_t sum = *sums + own.initial;
        int32_t fixed =
            campana_mul_high((int32_t)((uint32_t)sum << sum_shift), own.multiplier) + own.offset;
        int32_t code = -1;
        if (residual) {
            code = *residual + 128;
            fixed += campana_mul_high((int32_t)((uint32_t)code << CAMPANA_CODE_SHIFT), factor);
            residual += pixels->stride;
        }
        if (((uint32_t)fixed & mask) <= near) {
            code = exact_code(rounding, channel, sum, code);
        } else {
            code = campana_clamp(fixed >> fraction_bits, low, high);
        }
        *output = (int8_t)code;
        output += pixels->stride;
        sums += pixels->sum_stride;
    }
}

#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)

/* Four channels of each of some pixels; gives how many pixels were stored, up to the
 * first of which a result is near to the middle between two codes. */
static uint32_t store_vectors(const campana_rounding *rounding, uint32_t first,
                              const campana_pixels *pixels, const int32_t *sums,
                              const int8_t *residual, int8_t *output)
{
    const uint32x4_t places = vmulq_n_u32(vidupq_n_u32(0, 1), sizeof(campana_channel));
    const campana_channel *own = rounding->channels + first;
    const int32x4_t initial = vldrwq_gather_offset_s32(&own->initial, places);
    const int32x4_t multiplier = vldrwq_gather_offset_s32(&own->multiplier, places);
    const int32x4_t offset = vldrwq_gather_offset_s32(&own->offset, places);
    const int32x4_t low = vdupq_n_s32(rounding->low), high = vdupq_n_s32(rounding->high);
    const int32_t sum_shift = rounding->sum_shift, fraction_bits = rounding->fraction_bits;
    const int32x4_t mask = vdupq_n_s32((int32_t)((UINT32_C(1) << fraction_bits) - 1));
    const int32_t near = 2 * rounding->tolerance, factor = rounding->residual_multiplier;
    const uint32_t stride = pixels->stride, sum_stride = pixels->sum_stride;
    uint32_t i;
    for (i = 0; i < pixels->count; i++, sums += sum_stride, output += stride) {
        int32x4_t fixed = vshlq_r_s32(vaddq_s32(vldrwq_s32(sums), initial), sum_shift);
        fixed = vaddq_s32(vmulhq_s32(fixed, multiplier), offset);
        if (residual) {
            const int32x4_t codes = vshlq_n_s32(vaddq_n_s32(vldrbq_s32(residual), 128), 23);
            fixed = vaddq_s32(fixed, vmulhq_s32(codes, vdupq_n_s32(factor)));
            residual += stride;
        }
        if (vcmpleq_n_s32(vandq_s32(fixed, mask), near)) {
            return i;
        }
        fixed = vshlq_r_s32(fixed, -fraction_bits);
        vstrbq_s32(output, vmaxq_s32(vminq_s32(fixed, high), low));
    }
    return i;
}

#endif

static void store_codes(const campana_rounding *rounding, uint32_t first, uint32_t count,
                        campana_pixels pixels, const int32_t *sums, const int8_t *residual,
                        int8_t *output)
{
    uint32_t i;
#if defined(__ARM_FEATURE_MVE) && !defined(CAMPANA_PORTABLE)
    while (count % 4 == 0 && pixels.count > 0) {
        const campana_pixels one = {1, pixels.stride, pixels.sum_stride};
        uint32_t stored = pixels.count;
        for (i = 0; i < count && stored == pixels.count; i += 4) {
            stored = store_vectors(rounding, first + i, &pixels, sums + i,
                                   residual ? residual + i : residual, output + i);
        }
        if (stored == pixels.count) {
            return;
        }
        /* The pixel that is near, one channel after another. */
        sums += stored * pixels.sum_stride;
        output += stored * pixels.stride;
        residual = residual ? residual + stored * pixels.stride : residual;
        for (i = 0; i < count; i++) {
            store_channel(rounding, first + i, &one, sums + i,
                          residual ? residual + i : residual, output + i);
        }
        sums += pixels.sum_stride;
        output += pixels.stride;
        residual = residual ? residual + pixels.stride : residual;
        pixels.count -= stored + 1;
    }
#endif
    for (i = 0; i < count; i++) {
        store_channel(rounding, first + i, &pixels, sums + i, residual ? residual + i : residual,
                      output + i);
    }
}

static void store_floats(const campana_rounding *rounding, uint32_t channel,
                         const campana_pixels *pixels, const int32_t *sums,
                         const int8_t *residual, void *output, uint32_t place)
{
    uint32_t i;
    for (i = 0; i < pixels->count; i++, place += pixels->stride, sums += pixels->sum_stride) {
        const int32_t sum = *sums + rounding->channels[channel].initial;
        const int32_t code = residual ? residual[place] + 128 : -1;
        const uint32_t result = campana_float_result(rounding, channel, sum, code);
        campana_store_float(
            campana_float_clamp(result, rounding->float_low, rounding->float_high), output,
            place);
    }
}

void campana_store(const campana_product *layer, uint32_t first, uint32_t count,
                   campana_pixels pixels, const int32_t *sums, const int8_t *residual,
                   void *output, uint32_t place)
{
    uint32_t i;
    if (!layer->gives_floats) {
        store_codes(&layer->rounding, first, count, pixels, sums,
                    residual ? residual + place : residual, (int8_t *)output + place);
        return;
    }
    for (i = 0; i < count; i++) {
        store_floats(&layer->rounding, first + i, &pixels, sums + i, residual, output, place + i);
    }
}

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

/* Operations that keep elements apart. */
#include "campana_kernels.h"
#include "campana_rounding.h"

#include "campana_config.h"

#ifdef CAMPANA_HAS_SUM
void campana_run_sum(const campana_sum *layer, const int8_t *left, const int8_t *right,
                     int8_t *output)
{
    uint32_t i;
    for (i = 0; i < layer->count; i++) {
        const int32_t a = left[i] + 128, b = right[i] + 128;
        const int32_t one = (int32_t)1 << CAMPANA_CODE_SHIFT;
        const int32_t fixed = campana_mul_high(a * one, layer->multipliers[0]) +
                              campana_mul_high(b * one, layer->multipliers[1]) + layer->offset;
        int32_t code;
        if (campana_is_near(fixed, layer->fraction_bits, layer->tolerance)) {
            const uint32_t products =
                campana_float_add(campana_float_mul(campana_float_of_int(a), layer->float_factors[0]),
                                  campana_float_mul(campana_float_of_int(b), layer->float_factors[1]));
            code = campana_float_to_code(campana_float_add(products, layer->float_offset),
                                         layer->low, layer->high);
        } else {
            code = campana_clamp(campana_nearest(fixed, layer->fraction_bits), layer->low,
                                 layer->high);
        }
        output[i] = (int8_t)(code - 128);
    }
}
#endif

#ifdef CAMPANA_HAS_MAP
void campana_run_map(const uint8_t *table, uint32_t count, const int8_t *input, int8_t *output)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        output[i] = (int8_t)(table[input[i] + 128] - 128);
    }
}
#endif

#ifdef CAMPANA_HAS_DECODE
void campana_run_decode(const uint32_t *table, uint32_t count, const int8_t *input, void *output)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        campana_store_float(table[input[i] + 128], output, i);
    }
}
#endif

#ifdef CAMPANA_HAS_COMBINATION
void campana_run_combination(const campana_combination *layer, const int8_t *left,
                             const int8_t *right, int8_t *output)
{
    const int32_t *a_strides = layer->strides[0], *b_strides = layer->strides[1];
    uint32_t index[CAMPANA_MAX_AXES] = {0};
    int axis = 0;
    while (axis >= 0) {
        uint32_t a = layer->tables[0][*left + 128], b = layer->tables[1][*right + 128];
        uint32_t result;
        if (layer->function == CAMPANA_MUL) {
            result = campana_float_mul(a, b);
        } else {
            b ^= layer->function == CAMPANA_SUB ? UINT32_C(0x80000000) : 0;
            result = campana_float_add(a, b);
        }
        result = campana_float_add(campana_float_mul(result, layer->inverse_scale),
                                   layer->zero_point);
        *output++ = (int8_t)(campana_float_to_code(result, layer->low, layer->high) - 128);
        for (axis = CAMPANA_MAX_AXES - 1; axis >= 0; axis--) {
            left += a_strides[axis];
            right += b_strides[axis];
            if (++index[axis] < layer->extents[axis]) {
                break;
            }
            left -= a_strides[axis] * (int32_t)index[axis];
            right -= b_strides[axis] * (int32_t)index[axis];
            index[axis] = 0;
        }
    }
}
#endif

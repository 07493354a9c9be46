#include "campana_weights.h"

#include <string.h>

#include "campana_config.h"

#ifdef CAMPANA_HAS_4_BITS
static void decode_4(const uint8_t *codes, const int8_t *levels, uint32_t count, int8_t *values)
{
    uint32_t i;
    for (i = 0; i + 2 <= count; i += 2) {
        const uint8_t pair = codes[i / 2];
        values[i] = levels[pair & 15];
        values[i + 1] = levels[pair >> 4];
    }
    if (i < count) {
        values[i] = levels[codes[i / 2] & 15];
    }
}
#endif

#ifdef CAMPANA_HAS_2_BITS
static void decode_2(const uint8_t *codes, const int8_t *levels, uint32_t count, int8_t *values)
{
    uint32_t i;
    for (i = 0; i + 4 <= count; i += 4) {
        const uint8_t four = codes[i / 4];
        values[i] = levels[four & 3];
        values[i + 1] = levels[four >> 2 & 3];
        values[i + 2] = levels[four >> 4 & 3];
        values[i + 3] = levels[four >> 6];
    }
    for (; i < count; i++) {
        values[i] = levels[codes[i / 4] >> 2 * (i % 4) & 3];
    }
}
#endif

#ifdef CAMPANA_HAS_OTHER_BITS
static void decode_any(const uint8_t *codes, uint32_t bits, const int8_t *levels, uint32_t count,
                       int8_t *values)
{
    const uint32_t mask = (UINT32_C(1) << bits) - 1;
    uint32_t held = 0, available = 0, i;
    for (i = 0; i < count; i++) {
        if (available < bits) {
            held |= (uint32_t)*codes++ << available;
            available += 8;
        }
        values[i] = levels[held & mask];
        held >>= bits;
        available -= bits;
    }
}
#endif

#ifdef CAMPANA_HAS_VECTORS
static void decode_vectors(const campana_weights *weights, const uint8_t *codes, uint32_t count,
                           int8_t *values)
{
    const uint32_t channels = count / weights->taps;
    uint32_t i, k, tap = 0, channel = 0;
    for (i = 0; i < count; i += weights->vector) {
        const int8_t *levels = weights->levels + (size_t)*codes++ * weights->vector;
        for (k = 0; k < weights->vector; k++) {
            values[tap * channels + channel] = levels[k];
            if (++tap == weights->taps) {
                tap = 0;
                channel++;
            }
        }
    }
}
#endif

void campana_decode_row(const campana_weights *weights, uint32_t row, uint32_t count,
                        int8_t *values)
{
    const uint8_t *codes = weights->codes + (size_t)row * weights->row_bytes;
    const int8_t *levels = weights->levels + (size_t)row * weights->level_stride;
    switch (weights->bits) {
#ifdef CAMPANA_HAS_4_BITS
    case 4:
        decode_4(codes, levels, count, values);
        break;
#endif
#ifdef CAMPANA_HAS_2_BITS
    case 2:
        decode_2(codes, levels, count, values);
        break;
#endif
#ifdef CAMPANA_HAS_VECTORS
    case 0:
        decode_vectors(weights, codes, count, values);
        break;
#endif
#ifdef CAMPANA_HAS_OTHER_BITS
    case 1:
    case 3:
    case 5:
    case 6:
    case 7:
        decode_any(codes, weights->bits, levels, count, values);
        break;
#endif
    default:
        (void)levels;
        memcpy(values, codes, count);
        break;
    }
}

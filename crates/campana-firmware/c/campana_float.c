#include "campana_float.h"

#define SIGN UINT32_C(0x80000000)
#define INFINITE UINT32_C(0x7f800000)
#define EXPONENT_BIAS 127
#define MANTISSA_BITS 23

static int32_t exponent_of(uint32_t value)
{
    return (int32_t)(value >> MANTISSA_BITS & 0xff);
}

static uint64_t mantissa_of(uint32_t value)
{
    return (value & UINT32_C(0x7fffff)) | UINT32_C(0x800000);
}

/* A shift to the right that keeps in the last bit whether bits were lost. */
static uint64_t shifted(uint64_t value, int32_t count)
{
    if (count > 62) {
        return value != 0;
    }
    return value >> count | ((value & ((UINT64_C(1) << count) - 1)) != 0);
}

/* sum * 2^exponent, where sum is below 2^63 and not zero. */
static uint32_t rounded(uint32_t sign, uint64_t sum, int32_t exponent)
{
    uint64_t mantissa, rest;
    const uint64_t half = UINT64_C(1) << 38;
    while (sum < UINT64_C(1) << 62) {
        sum <<= 1;
        exponent--;
    }
    mantissa = sum >> 39;
    rest = sum & ((UINT64_C(1) << 39) - 1);
    exponent += 39 + EXPONENT_BIAS + MANTISSA_BITS;
    if (rest > half || (rest == half && (mantissa & 1))) {
        mantissa++;
    }
    if (mantissa >> 24) {
        mantissa >>= 1;
        exponent++;
    }
    if (exponent <= 0) {
        return sign;
    }
    if (exponent >= 255) {
        return sign | INFINITE;
    }
    return sign | (uint32_t)exponent << MANTISSA_BITS | ((uint32_t)mantissa & UINT32_C(0x7fffff));
}

uint32_t campana_float_fma(uint32_t a, uint32_t b, uint32_t c)
{
    const uint32_t sign = (a ^ b) & SIGN;
    uint64_t product, other;
    int32_t exponent, distance;
    if (exponent_of(a) == 0 || exponent_of(b) == 0) {
        return exponent_of(c) == 0 ? CAMPANA_FLOAT_ZERO : c;
    }
    /* Both below 2^62, so that their sum is below 2^63. */
    product = mantissa_of(a) * mantissa_of(b) << 14;
    exponent = exponent_of(a) + exponent_of(b) - 2 * (EXPONENT_BIAS + MANTISSA_BITS) - 14;
    if (exponent_of(c) == 0) {
        return rounded(sign, product, exponent);
    }
    other = mantissa_of(c) << 38;
    distance = exponent - (exponent_of(c) - (EXPONENT_BIAS + MANTISSA_BITS) - 38);
    if (distance > 0) {
        other = shifted(other, distance);
    } else {
        product = shifted(product, -distance);
        exponent -= distance;
    }
    if (sign == (c & SIGN)) {
        return rounded(sign, product + other, exponent);
    }
    if (product == other) {
        return CAMPANA_FLOAT_ZERO;
    }
    if (product > other) {
        return rounded(sign, product - other, exponent);
    }
    return rounded(c & SIGN, other - product, exponent);
}

uint32_t campana_float_of_int(int32_t value)
{
    const uint32_t sign = value < 0 ? SIGN : 0;
    const uint64_t magnitude = value < 0 ? (uint64_t)(-(int64_t)value) : (uint64_t)value;
    return magnitude == 0 ? CAMPANA_FLOAT_ZERO : rounded(sign, magnitude, 0);
}

int32_t campana_float_to_code(uint32_t value, int32_t low, int32_t high)
{
    const int32_t exponent = exponent_of(value);
    int32_t code = 0;
    if ((value & SIGN) == 0 && exponent >= EXPONENT_BIAS + 9) {
        code = 255;
    } else if ((value & SIGN) == 0 && exponent >= EXPONENT_BIAS - 1) {
        const int32_t shift = EXPONENT_BIAS + MANTISSA_BITS - exponent;
        const uint32_t mantissa = (uint32_t)mantissa_of(value);
        const uint32_t half = UINT32_C(1) << (shift - 1);
        const uint32_t rest = mantissa & ((half << 1) - 1);
        code = (int32_t)(mantissa >> shift);
        if (rest > half || (rest == half && (code & 1))) {
            code++;
        }
    }
    return code < low ? low : code > high ? high : code;
}

/* The order of floats as that of integers. */
static int32_t order_of(uint32_t value)
{
    return value & SIGN ? -(int32_t)(value & ~SIGN) : (int32_t)value;
}

uint32_t campana_float_clamp(uint32_t value, uint32_t low, uint32_t high)
{
    if (order_of(value) < order_of(low)) {
        return low;
    }
    return order_of(value) > order_of(high) ? high : value;
}

/* Arithmetic of float32 on integers, for results that the desktop engine
 * computes in float32: the same bits, without a floating-point unit. */
#ifndef CAMPANA_FLOAT_H
#define CAMPANA_FLOAT_H

#include <stdint.h>

/* The bits of 0, 1 and 1.5 * 2^23. */
#define CAMPANA_FLOAT_ZERO UINT32_C(0)
#define CAMPANA_FLOAT_ONE UINT32_C(0x3f800000)
#define CAMPANA_FLOAT_BIAS UINT32_C(0x4b400000)

/* a * b + c, rounded once to the nearest float, ties to even. Operands are
 * normal numbers or zero; results below the normal numbers become zero. */
uint32_t campana_float_fma(uint32_t a, uint32_t b, uint32_t c);

/* The float nearest to an integer, ties to even. */
uint32_t campana_float_of_int(int32_t value);

/* The integer nearest to a float, ties to even, held to low and high, both of
 * 0 to 255. */
int32_t campana_float_to_code(uint32_t value, int32_t low, int32_t high);

/* A float held to bounds. */
uint32_t campana_float_clamp(uint32_t value, uint32_t low, uint32_t high);

static inline uint32_t campana_float_mul(uint32_t a, uint32_t b)
{
    return campana_float_fma(a, b, CAMPANA_FLOAT_ZERO);
}

static inline uint32_t campana_float_add(uint32_t a, uint32_t b)
{
    return campana_float_fma(a, CAMPANA_FLOAT_ONE, b);
}

#endif

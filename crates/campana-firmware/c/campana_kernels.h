/* Kernels on codes of 8 bits. A code is stored as int8: the code that the model
 * file has, 0 to 255, less 128. Images have their channels last. */
#ifndef CAMPANA_KERNELS_H
#define CAMPANA_KERNELS_H

#include <stdint.h>

/* How windows lie over images. */
typedef struct {
    uint16_t images, channels;
    uint16_t input_height, input_width;
    uint16_t output_height, output_width;
    uint16_t window_height, window_width;
    uint16_t stride_y, stride_x;
    uint16_t dilation_y, dilation_x;
    uint16_t pad_top, pad_left;
} campana_windows;

/* What becomes of the sums of one channel: first in fixed point, and where that
 * is too near to the middle between two codes, in the arithmetic of float32. The
 * offset has what makes the integer part the code: a half, the tolerance, and 128
 * less. */
typedef struct {
    int32_t initial;
    int32_t multiplier;
    int32_t offset;
    uint32_t float_multiplier;
    uint32_t float_offset;
} campana_channel;

typedef struct {
    const campana_channel *channels;
    /* For each channel whether its float sums are biased; null for all alike. */
    const uint8_t *biased;
    /* How far the fixed-point result may be from the float one, in its last
     * places. */
    int32_t tolerance;
    /* What a residual's code is multiplied with. */
    int32_t residual_multiplier;
    uint32_t float_residual;
    /* What makes codes of floats; an inverse scale of 0 where results are codes
     * by themselves. */
    uint32_t float_inverse_scale, float_zero_point;
    /* Bounds of floats, where results are floats. */
    uint32_t float_low, float_high;
    /* Bounds of codes. */
    int16_t low, high;
    uint8_t sum_shift, fraction_bits, is_biased;
} campana_rounding;

/* Weights of rows, one an output channel, each from a whole byte on. Codes are
 * packed from the low bits of a byte on; codes of 8 bits are int8 weights, and of 0
 * bits bytes that each stand for a vector of weights, whose taps lie behind their
 * channels. */
typedef struct {
    const uint8_t *codes;
    const int8_t *levels;
    uint32_t row_bytes;
    /* From the levels of one row to those of the next; 0 where all share them. */
    uint16_t level_stride;
    uint16_t taps;
    uint8_t bits, vector;
} campana_weights;

typedef struct {
    campana_windows windows;
    uint16_t filters, groups;
    /* Rows of the output that are computed from one copy of the input, and where
     * in the scratch that begins, behind decoded weights. */
    uint16_t strip_rows;
    uint32_t copy_offset;
    /* The code of zero. */
    int8_t zero;
    /* Whether input rows are copied, with a border around them. */
    uint8_t copies_input;
    uint8_t gives_floats;
    campana_weights weights;
    campana_rounding rounding;
} campana_product;

/* A convolution or a dense layer. Results are codes or the bits of floats. */
void campana_run_product(const campana_product *layer, const int8_t *input,
                         const int8_t *residual, void *output, int8_t *scratch);

/* A convolution of each channel by itself. */
void campana_run_depthwise(const campana_product *layer, const int8_t *input,
                           const int8_t *residual, void *output, int8_t *scratch);

typedef struct {
    uint32_t count;
    int32_t multipliers[2];
    int32_t offset, tolerance;
    uint32_t float_factors[2];
    uint32_t float_offset;
    int16_t low, high;
    uint8_t fraction_bits;
} campana_sum;

/* The sum of two values; the output may be either of them. */
void campana_run_sum(const campana_sum *layer, const int8_t *left, const int8_t *right,
                     int8_t *output);

/* A function of each code; the output may be the input. */
void campana_run_map(const uint8_t *table, uint32_t count, const int8_t *input, int8_t *output);

/* The float of each code, as its bits. */
void campana_run_decode(const uint32_t *table, uint32_t count, const int8_t *input, void *output);

void campana_run_max_pool(const campana_windows *windows, const int8_t *input, int8_t *output);

/* The factors of means over as many pixels as their place says. */
typedef struct {
    int32_t multiplier;
    uint32_t float_factor;
} campana_mean_factor;

typedef struct {
    campana_windows windows;
    const campana_mean_factor *factors;
    int32_t offset, tolerance;
    uint32_t float_offset;
    int8_t zero;
    uint8_t sum_shift, fraction_bits, gives_floats;
} campana_average;

void campana_run_average(const campana_average *layer, const int8_t *input, void *output);

#define CAMPANA_MAX_AXES 6

/* A block of elements and where it lies in the input and the output. */
typedef struct {
    uint32_t from, to;
    uint32_t extents[CAMPANA_MAX_AXES];
    int32_t from_strides[CAMPANA_MAX_AXES];
    int32_t to_strides[CAMPANA_MAX_AXES];
} campana_block;

void campana_run_fill(int8_t code, uint32_t count, int8_t *output);
void campana_run_copy(const campana_block *block, const int8_t *input, int8_t *output);

enum { CAMPANA_ADD, CAMPANA_SUB, CAMPANA_MUL };

/* A function of the floats that two codes stand for. */
typedef struct {
    const uint32_t *tables[2];
    uint32_t extents[CAMPANA_MAX_AXES];
    int32_t strides[2][CAMPANA_MAX_AXES];
    uint32_t inverse_scale, zero_point;
    int16_t low, high;
    uint8_t function;
} campana_combination;

void campana_run_combination(const campana_combination *layer, const int8_t *left,
                             const int8_t *right, int8_t *output);

#endif

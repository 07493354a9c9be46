/* Pools over images of codes. */
#include "campana_kernels.h"
#include "campana_rounding.h"

#include "campana_config.h"

/* The part of a window on one axis that is inside the image. */
typedef struct {
    int32_t first, count;
} taps;

static taps taps_of(int32_t start, int32_t extent, int32_t window, int32_t dilation)
{
    taps inside = {0, 0};
    int32_t tap;
    for (tap = 0; tap < window; tap++) {
        const int32_t at = start + tap * dilation;
        if (at >= 0 && at < extent) {
            inside.first = inside.count == 0 ? at : inside.first;
            inside.count++;
        }
    }
    return inside;
}

static taps rows_of(const campana_windows *w, uint32_t y)
{
    return taps_of((int32_t)(y * w->stride_y) - w->pad_top, w->input_height, w->window_height,
                   w->dilation_y);
}

static taps columns_of(const campana_windows *w, uint32_t x)
{
    return taps_of((int32_t)(x * w->stride_x) - w->pad_left, w->input_width, w->window_width,
                   w->dilation_x);
}

#ifdef CAMPANA_HAS_MAX_POOL
static int8_t max_of(const campana_windows *w, const int8_t *channel, taps rows, taps columns)
{
    int32_t max = -128, i, j;
    for (i = 0; i < rows.count; i++) {
        for (j = 0; j < columns.count; j++) {
            const int32_t row = rows.first + i * w->dilation_y;
            const int32_t column = columns.first + j * w->dilation_x;
            const int8_t code = channel[((size_t)row * w->input_width + (size_t)column) * w->channels];
            max = code > max ? code : max;
        }
    }
    return (int8_t)max;
}

void campana_run_max_pool(const campana_windows *w, const int8_t *input, int8_t *output)
{
    uint32_t image, y, x, channel;
    for (image = 0; image < w->images; image++) {
        for (y = 0; y < w->output_height; y++) {
            for (x = 0; x < w->output_width; x++) {
                const taps rows = rows_of(w, y), columns = columns_of(w, x);
                for (channel = 0; channel < w->channels; channel++) {
                    *output++ = max_of(w, input + channel, rows, columns);
                }
            }
        }
        input += (size_t)w->input_height * w->input_width * w->channels;
    }
}
#endif

#ifdef CAMPANA_HAS_AVERAGE
static int32_t sum_of(const campana_windows *w, const int8_t *channel, taps rows, taps columns)
{
    int32_t sum = 0, i, j;
    for (i = 0; i < rows.count; i++) {
        for (j = 0; j < columns.count; j++) {
            const int32_t row = rows.first + i * w->dilation_y;
            const int32_t column = columns.first + j * w->dilation_x;
            sum += channel[((size_t)row * w->input_width + (size_t)column) * w->channels];
        }
    }
    return sum;
}

static uint32_t float_mean(const campana_average *layer, int32_t sum, uint32_t factor)
{
    return campana_float_add(campana_float_mul(campana_float_of_int(sum), factor),
                             layer->float_offset);
}

static void store_mean(const campana_average *layer, int32_t sum, int32_t pixels, void *output,
                       uint32_t place)
{
    const campana_mean_factor *factor = &layer->factors[pixels];
    int32_t code;
    if (layer->gives_floats) {
        campana_store_float(float_mean(layer, sum, factor->float_factor), output, place);
        return;
    }
    code = campana_mul_high(sum * ((int32_t)1 << layer->sum_shift), factor->multiplier) +
           layer->offset;
    if (campana_is_near(code, layer->fraction_bits, layer->tolerance)) {
        code = campana_float_to_code(float_mean(layer, sum, factor->float_factor), 0, 255);
    } else {
        code = campana_clamp(campana_nearest(code, layer->fraction_bits), 0, 255);
    }
    ((int8_t *)output)[place] = (int8_t)(code - 128);
}

void campana_run_average(const campana_average *layer, const int8_t *input, void *output)
{
    const campana_windows *w = &layer->windows;
    uint32_t image, y, x, channel, place = 0;
    for (image = 0; image < w->images; image++) {
        for (y = 0; y < w->output_height; y++) {
            for (x = 0; x < w->output_width; x++) {
                const taps rows = rows_of(w, y), columns = columns_of(w, x);
                const int32_t pixels = rows.count * columns.count;
                for (channel = 0; channel < w->channels; channel++, place++) {
                    const int32_t sum = sum_of(w, input + channel, rows, columns);
                    store_mean(layer, sum - pixels * layer->zero, pixels, output, place);
                }
            }
        }
        input += (size_t)w->input_height * w->input_width * w->channels;
    }
}
#endif

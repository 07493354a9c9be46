/* Convolutions and dense layers. A strip of output rows is computed at a time:
 * the input rows under it are copied with a border around them where the windows
 * reach beyond the image, and filters are decoded once for all pixels of the
 * strip. */
#include <string.h>

#include "campana_dot.h"
#include "campana_kernels.h"
#include "campana_rounding.h"

/* Pixels whose results are stored at once; whole steps of CAMPANA_PIXELS. */
#define PIXELS_AT_ONCE 16

/* Input rows that lie in memory as windows meet them. */
typedef struct {
    const int8_t *first;
    int32_t row_stride;
} strip;

static int32_t at_least_zero(int32_t value)
{
    return value < 0 ? 0 : value;
}

/* Copies the input rows under a strip of output rows, with a border of zeros. */
static void copy_rows(const campana_product *layer, const int8_t *image, int32_t first_row,
                      int32_t rows, int8_t *copy)
{
    const campana_windows *w = &layer->windows;
    const int32_t channels = w->channels, width = w->input_width;
    const int32_t padded =
        (w->output_width - 1) * w->stride_x + (w->window_width - 1) * w->dilation_x + 1;
    const int32_t before = w->pad_left < padded ? w->pad_left : padded;
    const int32_t room = padded - before;
    const int32_t inside = width < room ? width : room;
    int32_t row;
    for (row = first_row; row < first_row + rows; row++, copy += padded * channels) {
        if (row < 0 || row >= w->input_height) {
            memset(copy, layer->zero, (size_t)(padded * channels));
            continue;
        }
        memset(copy, layer->zero, (size_t)(before * channels));
        memcpy(copy + before * channels, image + (size_t)row * width * channels,
               (size_t)(inside * channels));
        memset(copy + (before + inside) * channels, layer->zero,
               (size_t)(at_least_zero(room - inside) * channels));
    }
}

/* The taps of a window over rows of this stride. */
static campana_runs runs_of(const campana_product *layer, int32_t row_stride)
{
    const campana_windows *w = &layer->windows;
    const uint32_t group_channels = w->channels / layer->groups;
    campana_runs taps;
    taps.down_stride = w->dilation_y * row_stride;
    taps.across_stride = w->dilation_x * w->channels;
    if (layer->groups == 1 && w->dilation_x == 1) {
        taps.across = 1;
        taps.count = w->window_height;
        taps.len = w->window_width * group_channels;
    } else {
        taps.across = w->window_width;
        taps.count = (uint32_t)w->window_height * w->window_width;
        taps.len = group_channels;
    }
    return taps;
}

/* Output rows from y on, as many as the strip has. */
static void multiply_strip(const campana_product *layer, strip input, uint32_t y, uint32_t rows,
                           const int8_t *residual, void *output, int8_t *decoded)
{
    const campana_windows *w = &layer->windows;
    const uint32_t filters = layer->filters;
    const uint32_t group_filters = filters / layer->groups;
    const uint32_t group_channels = w->channels / layer->groups;
    const campana_runs taps = runs_of(layer, input.row_stride);
    const uint32_t pixel = w->stride_x * w->channels, next = (CAMPANA_PIXELS - 1) * pixel;
    campana_pixels pixels = {0, filters, CAMPANA_FILTERS};
    uint32_t first, count, row, column;
    for (first = 0; first < filters; first += count) {
        const uint32_t group = first / group_filters;
        const uint32_t left = (group + 1) * group_filters - first;
        uint32_t place = y * w->output_width * filters + first;
        count = left < CAMPANA_FILTERS ? left : CAMPANA_FILTERS;
        campana_decode_filters(&layer->weights, first, count, &taps, decoded);
        for (row = 0; row < rows; row++) {
            const int8_t *from = input.first + (int32_t)(row * w->stride_y) * input.row_stride +
                                 group * group_channels;
            for (column = 0; column < w->output_width; column += pixels.count) {
                int32_t sums[PIXELS_AT_ONCE * CAMPANA_FILTERS];
                const uint32_t rest = w->output_width - column;
                uint32_t i;
                pixels.count = rest < PIXELS_AT_ONCE ? rest : PIXELS_AT_ONCE;
                for (i = 0; i < pixels.count; i += CAMPANA_PIXELS, from += pixel) {
                    const int8_t *const at = from;
                    from += i + CAMPANA_PIXELS <= pixels.count ? next : 0;
                    campana_dot(at, from, decoded, &taps, sums + i * CAMPANA_FILTERS);
                }
                campana_store(layer, first, count, pixels, sums, residual, output, place);
                place += pixels.count * filters;
            }
        }
    }
}

void campana_run_product(const campana_product *layer, const int8_t *input,
                         const int8_t *residual, void *output, int8_t *scratch)
{
    const campana_windows *w = &layer->windows;
    int8_t *copy = scratch + layer->copy_offset;
    const size_t output_len =
        (size_t)w->output_height * w->output_width * layer->filters * (layer->gives_floats ? 4 : 1);
    uint32_t image, y;
    for (image = 0; image < w->images; image++) {
        for (y = 0; y < w->output_height; y += layer->strip_rows) {
            const uint32_t left = w->output_height - y;
            const uint32_t rows = left < layer->strip_rows ? left : layer->strip_rows;
            const int32_t first_row = (int32_t)(y * w->stride_y) - w->pad_top;
            strip source;
            if (layer->copies_input) {
                const int32_t input_rows = (int32_t)(rows - 1) * w->stride_y +
                                           (w->window_height - 1) * w->dilation_y + 1;
                copy_rows(layer, input, first_row, input_rows, copy);
                source.first = copy;
                source.row_stride = ((w->output_width - 1) * w->stride_x +
                                     (w->window_width - 1) * w->dilation_x + 1) *
                                    w->channels;
            } else {
                source.row_stride = w->input_width * w->channels;
                source.first = input + first_row * source.row_stride;
            }
            multiply_strip(layer, source, y, rows, residual, output, scratch);
        }
        input += (size_t)w->input_height * w->input_width * w->channels;
        output = (int8_t *)output + output_len;
        residual = residual ? residual + output_len : residual;
    }
}

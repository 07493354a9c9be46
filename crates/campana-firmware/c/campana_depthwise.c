/* Convolutions of each channel by itself: some channels of a pixel at a time,
 * whose weights are decoded once for all pixels. */
#include "campana_config.h"
#include "campana_kernels.h"
#include "campana_rounding.h"
#include "campana_weights.h"

/* The weights of a window over some channels, [taps, CHANNELS]. */
static void decode_channels(const campana_product *layer, uint32_t first, uint32_t count,
                            int8_t *decoded)
{
    const uint32_t taps = (uint32_t)layer->windows.window_height * layer->windows.window_width;
    int8_t row[CAMPANA_DEPTHWISE_TAPS];
    uint32_t channel, tap;
    for (channel = 0; channel < count; channel++) {
        campana_decode_row(&layer->weights, first + channel, taps, row);
        for (tap = 0; tap < taps; tap++) {
            decoded[tap * CAMPANA_DEPTHWISE_CHANNELS + channel] = row[tap];
        }
    }
}

static void add_tap(const int8_t *input, const int8_t *weights, uint32_t count, int32_t *sums)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        sums[i] += input[i] * weights[i];
    }
}

static void add_zeros(int32_t zero, const int8_t *weights, uint32_t count, int32_t *sums)
{
    uint32_t i;
    for (i = 0; i < count; i++) {
        sums[i] += zero * weights[i];
    }
}

/* The sums of some channels of one output pixel. */
static void sum_taps(const campana_product *layer, const int8_t *image, uint32_t y, uint32_t x,
                     uint32_t count, const int8_t *decoded, int32_t *sums)
{
    const campana_windows *w = &layer->windows;
    uint32_t i, j;
    for (i = 0; i < count; i++) {
        sums[i] = 0;
    }
    for (i = 0; i < w->window_height; i++) {
        const int32_t row = (int32_t)(y * w->stride_y + i * w->dilation_y) - w->pad_top;
        for (j = 0; j < w->window_width; j++) {
            const int32_t column = (int32_t)(x * w->stride_x + j * w->dilation_x) - w->pad_left;
            if (row < 0 || row >= w->input_height || column < 0 || column >= w->input_width) {
                add_zeros(layer->zero, decoded, count, sums);
            } else {
                add_tap(image + ((size_t)row * w->input_width + (size_t)column) * w->channels,
                        decoded, count, sums);
            }
            decoded += CAMPANA_DEPTHWISE_CHANNELS;
        }
    }
}

void campana_run_depthwise(const campana_product *layer, const int8_t *input,
                           const int8_t *residual, void *output, int8_t *scratch)
{
    const campana_windows *w = &layer->windows;
    const uint32_t channels = w->channels;
    const size_t input_len = (size_t)w->input_height * w->input_width * channels;
    const uint32_t pixels = (uint32_t)w->output_height * w->output_width;
    const campana_pixels one = {1, channels, CAMPANA_DEPTHWISE_CHANNELS};
    int32_t sums[CAMPANA_DEPTHWISE_CHANNELS];
    uint32_t first, image, pixel;
    for (first = 0; first < channels; first += CAMPANA_DEPTHWISE_CHANNELS) {
        const uint32_t left = channels - first;
        const uint32_t count =
            left < CAMPANA_DEPTHWISE_CHANNELS ? left : CAMPANA_DEPTHWISE_CHANNELS;
        decode_channels(layer, first, count, scratch);
        for (image = 0; image < w->images; image++) {
            for (pixel = 0; pixel < pixels; pixel++) {
                const uint32_t place = (image * pixels + pixel) * channels + first;
                sum_taps(layer, input + image * input_len + first, pixel / w->output_width,
                         pixel % w->output_width, count, scratch, sums);
                campana_store(layer, first, count, one, sums, residual, output, place);
            }
        }
    }
}

/* Runs a network of pictures once to warm up and then several times, and prints
 * the five best classes and how long a run took.
 *
 * usage: top5 MODEL [PICTURE.ppm]
 *
 * The picture is a binary PPM of the size that the model takes, its channels go
 * to the model as 0 to 1; without one the input is a gradient.
 */
#include <campana.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define RUNS 10
#define TOP 5

static int failed(const char *what) {
    fprintf(stderr, "%s: %s\n", what, campana_last_error());
    return EXIT_FAILURE;
}

/* Fills [1, channels, height, width] with a gradient. */
static void draw(float *pixels, int64_t channels, int64_t height, int64_t width) {
    for (int64_t c = 0; c < channels; c++)
        for (int64_t y = 0; y < height; y++)
            for (int64_t x = 0; x < width; x++)
                *pixels++ = (float)(c == 0 ? y : x) / (float)(c == 0 ? height : width);
}

/* Reads a binary PPM into [1, 3, height, width]; 0 if it is none of this size. */
static int read_ppm(const char *path, float *pixels, int64_t height, int64_t width) {
    long w = 0, h = 0, most = 0;
    FILE *file = fopen(path, "rb");
    int fits = file && fscanf(file, "P6 %ld %ld %ld", &w, &h, &most) == 3 && fgetc(file) != EOF &&
               w == width && h == height && most == 255;
    for (int64_t i = 0; fits && i < height * width; i++)
        for (int64_t c = 0; fits && c < 3; c++) {
            int value = fgetc(file);
            fits = value != EOF;
            pixels[c * height * width + i] = (float)value / 255.0f;
        }
    if (file)
        fclose(file);
    return fits;
}

static double milliseconds(void) {
    struct timespec now;
    timespec_get(&now, TIME_UTC);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void print_top(const float *scores, size_t count) {
    unsigned char *is_taken = calloc(count ? count : 1, 1);
    for (int place = 0; is_taken && place < TOP && (size_t)place < count; place++) {
        size_t best = count;
        for (size_t i = 0; i < count; i++)
            if (!is_taken[i] && (best == count || scores[i] > scores[best]))
                best = i;
        is_taken[best] = 1;
        printf("%d. class %zu, score %.4f\n", place + 1, best, scores[best]);
    }
    free(is_taken);
}

int main(int argc, char **argv) {
    campana_session *session = NULL;
    campana_result *result = NULL;
    campana_value declared;
    campana_tensor input = {0}, output;
    size_t inputs = 0;
    double start, elapsed_ms;

    if (argc < 2) {
        fprintf(stderr, "usage: %s MODEL [PICTURE.ppm]\n", argv[0]);
        return EXIT_FAILURE;
    }
    if (campana_session_open(argv[1], NULL, &session) != CAMPANA_OK)
        return failed("open");
    if (campana_session_inputs(session, &declared, 1, &inputs) != CAMPANA_OK)
        return failed("inputs");
    if (inputs != 1 || declared.rank != 4 || declared.element_type != CAMPANA_FLOAT32 ||
        declared.dims[1] < 1 || declared.dims[2] < 1 || declared.dims[3] < 1) {
        fprintf(stderr, "the model takes no float32 [batch, channels, height, width]\n");
        return EXIT_FAILURE;
    }

    int64_t dims[4] = {1, declared.dims[1], declared.dims[2], declared.dims[3]};
    size_t count = (size_t)(dims[1] * dims[2] * dims[3]);
    float *pixels = malloc(count * sizeof *pixels);
    if (!pixels)
        return EXIT_FAILURE;
    if (argc == 2)
        draw(pixels, dims[1], dims[2], dims[3]);
    else if (dims[1] != 3 || !read_ppm(argv[2], pixels, dims[2], dims[3])) {
        fprintf(stderr, "%s is no PPM of %d x %d\n", argv[2], (int)dims[3], (int)dims[2]);
        return EXIT_FAILURE;
    }
    input.dims = dims;
    input.rank = 4;
    input.element_type = CAMPANA_FLOAT32;
    input.data = pixels;
    input.len_bytes = count * sizeof *pixels;

    if (campana_session_run(session, &input, 1, &result) != CAMPANA_OK)
        return failed("run");
    start = milliseconds();
    for (int i = 0; i < RUNS; i++) {
        campana_result_free(result);
        if (campana_session_run(session, &input, 1, &result) != CAMPANA_OK)
            return failed("run");
    }
    elapsed_ms = (milliseconds() - start) / RUNS;

    if (campana_result_outputs(result, &output, 1, NULL) != CAMPANA_OK)
        return failed("outputs");
    if (output.element_type != CAMPANA_FLOAT32) {
        fprintf(stderr, "the model gives no float32\n");
        return EXIT_FAILURE;
    }
    print_top(output.data, output.len_bytes / sizeof(float));
    printf("%.3f ms a run, campana %s\n", elapsed_ms, campana_version());

    free(pixels);
    campana_result_free(result);
    campana_session_free(session);
    return EXIT_SUCCESS;
}

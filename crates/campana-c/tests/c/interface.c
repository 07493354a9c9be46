/* Calls every function of campana.h, rightly and in every wrong way that it
 * promises to notice.
 *
 * usage: interface MODEL CONTAINER TYPES
 *
 * MODEL takes "input" [?, 3, 32, 32] and gives "logits" [?, 10], CONTAINER has
 * the same model, TYPES gives back what it takes: a value of each element type
 * of shape [?], then a scalar float32.
 */
#define _POSIX_C_SOURCE 200809L
#include <campana.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define COUNT (3 * 32 * 32)
#define THREADS 4
#define RUNS 5
#define SMALL_STACK (64 * 1024)

#define CHECK(condition)                                                                        \
    do {                                                                                        \
        if (!(condition)) {                                                                     \
            fprintf(stderr, "%s:%d: %s; last error: %s\n", __FILE__, __LINE__, #condition,      \
                    campana_last_error());                                                      \
            exit(EXIT_FAILURE);                                                                 \
        }                                                                                       \
    } while (0)

/* The call gives this status, and a text that contains this part. */
#define FAILS(status, call, part)                                                               \
    do {                                                                                        \
        CHECK((call) == (status));                                                              \
        CHECK(strstr(campana_last_error(), part));                                              \
    } while (0)

static float pixels[COUNT];
static const int64_t shape[4] = {1, 3, 32, 32};
static float expected[10];

static campana_tensor picture(void) {
    campana_tensor input = {NULL, shape, pixels, sizeof pixels, CAMPANA_FLOAT32, 4};
    return input;
}

static campana_session *opened(const char *path, uint32_t threads) {
    campana_options options = CAMPANA_OPTIONS_INIT;
    campana_session *session = NULL;
    options.threads = threads;
    CHECK(campana_session_open(path, &options, &session) == CAMPANA_OK);
    CHECK(session);
    return session;
}

/* Runs on the picture; the scores must be those of the first time. */
static void run_as_expected(const campana_session *session) {
    campana_tensor input = picture(), output;
    campana_result *result = NULL;
    CHECK(campana_session_run(session, &input, 1, &result) == CAMPANA_OK);
    CHECK(campana_result_outputs(result, &output, 1, NULL) == CAMPANA_OK);
    CHECK(output.len_bytes == sizeof expected);
    CHECK(memcmp(output.data, expected, sizeof expected) == 0);
    CHECK(campana_result_free(result) == CAMPANA_OK);
}

static unsigned char *contents(const char *path, size_t *len_bytes) {
    FILE *file = fopen(path, "rb");
    unsigned char *bytes;
    CHECK(file && fseek(file, 0, SEEK_END) == 0);
    *len_bytes = (size_t)ftell(file);
    rewind(file);
    bytes = malloc(*len_bytes);
    CHECK(bytes && fread(bytes, 1, *len_bytes, file) == *len_bytes);
    fclose(file);
    return bytes;
}

static void versions_and_no_error(void) {
    CHECK(strcmp(campana_version(), CAMPANA_VERSION) == 0);
    CHECK(strcmp(campana_last_error(), "") == 0);
}

static void opening(const char *path) {
    campana_options options = CAMPANA_OPTIONS_INIT;
    campana_session *session = (campana_session *)&options;
    size_t len_bytes;
    unsigned char *bytes = contents(path, &len_bytes);

    FAILS(CAMPANA_ARGUMENT, campana_session_open(path, NULL, NULL), "session is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_open(NULL, NULL, &session), "path is NULL");
    CHECK(!session);
    FAILS(CAMPANA_FILE, campana_session_open("no/such/file.onnx", NULL, &session),
          "no/such/file.onnx");
    CHECK(campana_session_open("/", NULL, &session) != CAMPANA_OK && !session);
    options.struct_size = 3;
    FAILS(CAMPANA_ARGUMENT, campana_session_open(path, &options, &session), "struct_size is 3");
    options.struct_size = sizeof options;
    options.threads = 5000;
    FAILS(CAMPANA_ARGUMENT, campana_session_open(path, &options, &session), "5000 threads");
    options.threads = 1;
    options.max_memory = 1000;
    FAILS(CAMPANA_LIMIT, campana_session_open(path, &options, &session), "memory");
    FAILS(CAMPANA_LIMIT, campana_session_open_memory(bytes, len_bytes, &options, &session), "memory");

    FAILS(CAMPANA_ARGUMENT, campana_session_open_memory(NULL, 7, NULL, &session), "file is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_open_memory(bytes, len_bytes, NULL, NULL), "NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_open_memory(bytes, SIZE_MAX, NULL, &session),
          "more than memory has");
    CHECK(campana_session_open_memory(NULL, 0, NULL, &session) == CAMPANA_FORMAT);
    CHECK(campana_session_open_memory("a text", 6, NULL, &session) == CAMPANA_FORMAT);
    CHECK(campana_session_open_memory(bytes, len_bytes / 2, NULL, &session) == CAMPANA_FORMAT);
    CHECK(!session);

    CHECK(campana_session_open_memory(bytes, len_bytes, NULL, &session) == CAMPANA_OK);
    memset(bytes, 0xff, len_bytes);
    free(bytes);
    run_as_expected(session);
    CHECK(campana_session_free(session) == CAMPANA_OK);
}

static void declarations(const campana_session *session) {
    campana_value values[2];
    size_t count = 77;
    memset(values, 0xaa, sizeof values);
    CHECK(campana_session_inputs(session, NULL, 0, &count) == CAMPANA_OK && count == 1);
    CHECK(campana_session_inputs(session, values, 2, NULL) == CAMPANA_OK);
    CHECK(strcmp(values[0].name, "input") == 0 && values[0].element_type == CAMPANA_FLOAT32);
    CHECK(values[0].rank == 4 && values[0].dims[0] == -1 && values[0].dims[1] == 3);
    CHECK(values[0].dims[2] == 32 && values[0].dims[3] == 32);
    CHECK(values[1].rank == (int32_t)0xaaaaaaaa);
    CHECK(campana_session_outputs(session, values, 1, &count) == CAMPANA_OK && count == 1);
    CHECK(strcmp(values[0].name, "logits") == 0 && values[0].rank == 2);
    CHECK(values[0].dims[0] == -1 && values[0].dims[1] == 10);
    FAILS(CAMPANA_ARGUMENT, campana_session_inputs(session, NULL, 1, &count), "values is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_outputs(session, NULL, 1, &count), "values is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_inputs(NULL, values, 1, &count), "session is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_outputs(NULL, values, 1, &count), "session is NULL");
}

/* Runs on an input of which one field is wrong. */
#define WRONG(field, value, part)                                                               \
    do {                                                                                        \
        campana_tensor input = picture();                                                       \
        campana_result *result = (campana_result *)&input;                                      \
        input.field = (value);                                                                  \
        FAILS(CAMPANA_ARGUMENT, campana_session_run(session, &input, 1, &result), part);        \
        CHECK(!result);                                                                         \
    } while (0)

static void wrong_inputs(const campana_session *session) {
    static const int64_t negative[4] = {1, 3, -32, -32}, huge[4] = {INT64_MAX, 3, 32, 32},
                         narrow[4] = {1, 3, 16, 64}, none[4] = {0, 3, 32, 32};
    campana_tensor two[2] = {picture(), picture()};
    campana_result *result = NULL;

    WRONG(rank, 3, "12288 bytes");
    WRONG(rank, -1, "has rank -1");
    WRONG(rank, 65, "has rank 65");
    WRONG(rank, INT32_MAX, "0 to 64");
    WRONG(dims, NULL, "dims is NULL");
    WRONG(dims, negative, "extent 2 is -32");
    WRONG(dims, huge, "more bytes than there can be");
    WRONG(dims, narrow, "has shape");
    WRONG(data, NULL, "data is NULL");
    WRONG(len_bytes, sizeof pixels - 1, "needs 12288 bytes");
    WRONG(len_bytes, 0, "has 0 bytes");
    WRONG(len_bytes, SIZE_MAX, "more than memory has");
    WRONG(element_type, CAMPANA_UNDEFINED, "does not take");
    WRONG(element_type, CAMPANA_STRING, "string");
    WRONG(element_type, 4711, "4711");
    WRONG(element_type, CAMPANA_INT32, "float32 in the model");
    WRONG(name, "output", "no input is named");
    WRONG(name, "\xff\xfe", "no UTF-8");

    FAILS(CAMPANA_ARGUMENT, campana_session_run(session, two, 1, NULL), "result is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_run(session, NULL, 1, &result), "inputs is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_session_run(session, two, 0, &result), "0 were given");
    FAILS(CAMPANA_ARGUMENT, campana_session_run(session, two, 2, &result), "2 were given");
    FAILS(CAMPANA_ARGUMENT, campana_session_run(NULL, two, 1, &result), "session is NULL");

    /* No pictures at all is either an answer or an error, no crash. */
    two[0].dims = none;
    two[0].len_bytes = 0;
    two[0].data = NULL;
    if (campana_session_run(session, two, 1, &result) == CAMPANA_OK)
        CHECK(campana_result_free(result) == CAMPANA_OK);
    run_as_expected(session);
}

static void handles(const char *path) {
    campana_session *session = opened(path, 1), *copy = session;
    campana_tensor input = picture(), output;
    campana_result *result = NULL, *other = NULL;
    campana_value value;
    size_t count;

    CHECK(campana_session_run(session, &input, 1, &result) == CAMPANA_OK);
    FAILS(CAMPANA_HANDLE, campana_session_free((campana_session *)result), "no session");
    FAILS(CAMPANA_HANDLE, campana_result_free((campana_result *)session), "no result");
    FAILS(CAMPANA_HANDLE, campana_session_run((campana_session *)&input, &input, 1, &other),
          "no session");
    FAILS(CAMPANA_ARGUMENT, campana_result_outputs(result, NULL, 1, &count), "tensors is NULL");
    FAILS(CAMPANA_ARGUMENT, campana_result_outputs(NULL, &output, 1, &count), "result is NULL");

    CHECK(campana_session_free(session) == CAMPANA_OK);
    FAILS(CAMPANA_HANDLE, campana_session_free(copy), "freed");
    FAILS(CAMPANA_HANDLE, campana_session_run(copy, &input, 1, &other), "freed");
    FAILS(CAMPANA_HANDLE, campana_session_inputs(copy, &value, 1, &count), "freed");
    FAILS(CAMPANA_HANDLE, campana_session_outputs(copy, &value, 1, &count), "freed");

    CHECK(campana_result_outputs(result, NULL, 0, &count) == CAMPANA_OK && count == 1);
    CHECK(campana_result_outputs(result, &output, 1, &count) == CAMPANA_OK);
    CHECK(strcmp(output.name, "logits") == 0 && output.rank == 2 && output.dims[1] == 10);
    CHECK(memcmp(output.data, expected, sizeof expected) == 0);
    CHECK(campana_result_free(result) == CAMPANA_OK);
    FAILS(CAMPANA_HANDLE, campana_result_free(result), "freed");
    FAILS(CAMPANA_HANDLE, campana_result_outputs(result, &output, 1, &count), "freed");
    CHECK(campana_session_free(NULL) == CAMPANA_OK && campana_result_free(NULL) == CAMPANA_OK);
}

/* Every type there and back, from an address that is aligned to nothing. */
static void types(const char *path) {
    static const int64_t dims[1] = {5};
    static const size_t width[] = {4, 1, 1, 2, 2, 4, 8, 1, 2, 8, 4, 8, 2};
    static unsigned char memory[14][48];
    campana_session *session = opened(path, 1);
    campana_value values[14];
    campana_tensor inputs[14], outputs[14];
    campana_result *result = NULL;
    size_t count;
    memset(inputs, 0, sizeof inputs);
    CHECK(campana_session_inputs(session, values, 14, &count) == CAMPANA_OK && count == 14);
    for (size_t i = 0; i < count; i++) {
        int is_scalar = i == 13;
        CHECK(values[i].rank == !is_scalar);
        for (size_t k = 0; k < sizeof memory[i]; k++)
            memory[i][k] = (unsigned char)(values[i].element_type == CAMPANA_BOOL ? k % 2 : k * 3 % 100);
        inputs[i].name = values[i].name;
        inputs[i].dims = is_scalar ? NULL : dims;
        inputs[i].rank = values[i].rank;
        inputs[i].element_type = values[i].element_type;
        inputs[i].data = memory[i] + 1;
        inputs[i].len_bytes = is_scalar ? 4 : 5 * width[i];
    }
    CHECK(campana_session_run(session, inputs, count, &result) == CAMPANA_OK);
    CHECK(campana_result_outputs(result, outputs, 14, &count) == CAMPANA_OK && count == 14);
    for (size_t i = 0; i < count; i++) {
        CHECK(outputs[i].element_type == inputs[i].element_type);
        CHECK(outputs[i].rank == inputs[i].rank && (!outputs[i].rank || outputs[i].dims[0] == 5));
        CHECK(outputs[i].len_bytes == inputs[i].len_bytes);
        CHECK(memcmp(outputs[i].data, inputs[i].data, outputs[i].len_bytes) == 0);
    }
    CHECK(campana_result_free(result) == CAMPANA_OK);
    inputs[1].name = inputs[0].name;
    FAILS(CAMPANA_ARGUMENT, campana_session_run(session, inputs, count, &result), "twice");
    CHECK(campana_session_free(session) == CAMPANA_OK);
}

static void *run_often(void *session) {
    campana_tensor input = picture();
    campana_result *result = NULL;
    CHECK(strcmp(campana_last_error(), "") == 0);
    for (int i = 0; i < RUNS; i++) {
        run_as_expected(session);
        input.rank = 3 + (i % 2) * 100;
        FAILS(CAMPANA_ARGUMENT, campana_session_run(session, &input, 1, &result),
              i % 2 ? "rank 103" : "bytes");
    }
    return NULL;
}

/* Runs until the session is freed under its feet. */
static void *run_until_freed(void *session) {
    campana_tensor input = picture(), output;
    campana_result *result = NULL;
    campana_status status;
    while ((status = campana_session_run(session, &input, 1, &result)) == CAMPANA_OK) {
        CHECK(campana_result_outputs(result, &output, 1, NULL) == CAMPANA_OK);
        CHECK(memcmp(output.data, expected, sizeof expected) == 0);
        CHECK(campana_result_free(result) == CAMPANA_OK);
    }
    CHECK(status == CAMPANA_HANDLE && !result);
    return NULL;
}

static void in_threads(void *(*work)(void *), campana_session *session, int is_freed) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_create(&threads[i], NULL, work, session) == 0);
    if (is_freed) {
        run_as_expected(session);
        CHECK(campana_session_free(session) == CAMPANA_OK);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static void *open_and_run(void *path) {
    campana_session *session = opened(path, 2);
    run_as_expected(session);
    CHECK(campana_session_free(session) == CAMPANA_OK);
    return NULL;
}

static void small_stack(char *path) {
    pthread_attr_t attributes;
    pthread_t thread;
    CHECK(pthread_attr_init(&attributes) == 0);
    CHECK(pthread_attr_setstacksize(&attributes, SMALL_STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, open_and_run, path) == 0);
    CHECK(pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
}

/* A forked process has none of a session's threads, and must not wait for them. */
static void forked(const char *path) {
    campana_session *session = opened(path, 2), *serial = opened(path, 1);
    int status = -1;
    pid_t child;
    run_as_expected(session);
    child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        campana_tensor input = picture();
        campana_result *result = NULL;
        FAILS(CAMPANA_HANDLE, campana_session_run(session, &input, 1, &result), "forked");
        CHECK(campana_session_free(session) == CAMPANA_OK);
        run_as_expected(serial);
        /* All is well. No exit: valgrind would count what belongs to the threads. */
        raise(SIGKILL);
    }
    CHECK(waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    run_as_expected(session);
    CHECK(campana_session_free(session) == CAMPANA_OK);
    CHECK(campana_session_free(serial) == CAMPANA_OK);
}

int main(int argc, char **argv) {
    campana_session *session, *packed;
    campana_tensor input = picture(), output;
    campana_result *result = NULL;
    CHECK(argc == 4);
    versions_and_no_error();
    for (size_t i = 0; i < COUNT; i++)
        pixels[i] = (float)(i * 37 % 255) / 255.0f;

    session = opened(argv[1], 2);
    CHECK(campana_session_run(session, &input, 1, &result) == CAMPANA_OK);
    CHECK(campana_result_outputs(result, &output, 1, NULL) == CAMPANA_OK);
    CHECK(output.len_bytes == sizeof expected && output.element_type == CAMPANA_FLOAT32);
    memcpy(expected, output.data, sizeof expected);
    CHECK(campana_result_free(result) == CAMPANA_OK);

    declarations(session);
    wrong_inputs(session);
    opening(argv[1]);
    handles(argv[1]);
    types(argv[3]);
    packed = opened(argv[2], 1);
    run_as_expected(packed);
    CHECK(campana_session_free(packed) == CAMPANA_OK);
    in_threads(run_often, session, 0);
    small_stack(argv[1]);
    forked(argv[1]);
    in_threads(run_until_freed, session, 1);
    puts("all as promised");
    return EXIT_SUCCESS;
}

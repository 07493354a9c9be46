/*
 * campana: runs convolutional networks, quantized or not, on the processor.
 *
 *     campana_session *session = NULL;
 *     if (campana_session_open("model.onnx", NULL, &session) != CAMPANA_OK)
 *         puts(campana_last_error());
 *
 * Every function may be called from any thread. One session may run in several
 * threads at once: the runs share its threads and weights, nothing else.
 *
 * Where a pointer is not NULL it leads to as many elements as the function is
 * told there are, or to one, and no other thread writes there during the call.
 * Nothing that a caller passes is kept. Everything else is checked: NULL where
 * something is needed, lengths, ranks, types, names, and handles that have been
 * freed or never were one give a status and a text, and change nothing.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef CAMPANA_H
#define CAMPANA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this header; campana_version() is that of the library. */
#define CAMPANA_VERSION "0.1.0"

/* What became of a call. */
typedef int32_t campana_status;
enum {
    CAMPANA_OK = 0,
    /* An argument is wrong: NULL, a length, a rank, a type, a name. */
    CAMPANA_ARGUMENT = 1,
    /* A handle that has been freed, or never was one of this kind. */
    CAMPANA_HANDLE = 2,
    /* A file cannot be read. */
    CAMPANA_FILE = 3,
    /* A file is damaged, or not what it claims to be. */
    CAMPANA_FORMAT = 4,
    /* A sound model needs something that campana does not have. */
    CAMPANA_UNSUPPORTED = 5,
    /* A file asks for more than its limits allow. */
    CAMPANA_LIMIT = 6,
    /* The model cannot run on these shapes, or fails on these values. */
    CAMPANA_RUN = 7,
    /* A defect of campana; nothing of the caller's is harmed. */
    CAMPANA_INTERNAL = 8
};

/* Types of elements; the numbers are those of ONNX. */
typedef int32_t campana_type;
enum {
    /* The model does not declare the type. */
    CAMPANA_UNDEFINED = 0,
    CAMPANA_FLOAT32 = 1,
    CAMPANA_UINT8 = 2,
    CAMPANA_INT8 = 3,
    CAMPANA_UINT16 = 4,
    CAMPANA_INT16 = 5,
    CAMPANA_INT32 = 6,
    CAMPANA_INT64 = 7,
    /* Models may declare strings; inputs and outputs of runs cannot be any. */
    CAMPANA_STRING = 8,
    /* One byte; 0 is false, all else is true, and 1 is written for it. */
    CAMPANA_BOOL = 9,
    /* The bits of an IEEE half. */
    CAMPANA_FLOAT16 = 10,
    CAMPANA_FLOAT64 = 11,
    CAMPANA_UINT32 = 12,
    CAMPANA_UINT64 = 13,
    /* The upper half of the bits of a 32-bit float. */
    CAMPANA_BFLOAT16 = 16
};

/* A model that is ready to run. A handle, no address: a copy of one that has
 * been freed is refused with CAMPANA_HANDLE. */
typedef struct campana_session campana_session;

/* What came of a run; a handle too. */
typedef struct campana_result campana_result;

/* How a model is opened. Begin with CAMPANA_OPTIONS_INIT; 0 is the default of
 * every field but the first. */
typedef struct campana_options {
    /* sizeof(campana_options), by which the library knows the caller's header. */
    size_t struct_size;
    /* Bytes of memory that reading the file may take. Default: 64 MB and 64
     * times the file, 4 GiB at most; for a file that is trusted, give more. */
    uint64_t max_memory;
    /* Threads of each session, the one that calls included; 1024 at most.
     * Default: as many as there are processors. */
    uint32_t threads;
    uint32_t reserved;
} campana_options;

#define CAMPANA_OPTIONS_INIT { sizeof(campana_options), 0, 0, 0 }

/* An input or output as the model declares it; what the pointers lead to lasts
 * as long as the session. */
typedef struct campana_value {
    /* UTF-8. */
    const char *name;
    /* The extents, outermost first; -1 where a run decides. NULL without rank. */
    const int64_t *dims;
    campana_type element_type;
    /* Number of extents; -1 where the model does not declare it. */
    int32_t rank;
} campana_value;

/* Elements with their type and shape, row-major, without gaps. */
typedef struct campana_tensor {
    /* UTF-8. NULL in an input: the model's input of the same position. */
    const char *name;
    /* The extents, outermost first. */
    const int64_t *dims;
    /* Of an input: anywhere, aligned or not; aligned floats are not copied. */
    const void *data;
    /* Bytes at data: the product of the extents times the size of an element. */
    size_t len_bytes;
    campana_type element_type;
    /* Number of extents, 0 of a scalar; 64 at most. */
    int32_t rank;
} campana_tensor;

/* The library's version, such as "0.1.0". */
const char *campana_version(void);

/* What went wrong in this thread's last call that did not return CAMPANA_OK:
 * UTF-8, "" if none. It stays until the thread's next such call; others do not
 * see it. */
const char *campana_last_error(void);

/* Opens an ONNX model, or a container of one, in a file; data beside the model
 * is found. The path is bytes as the system has them, UTF-8 on Windows. options
 * may be NULL. *session is NULL unless CAMPANA_OK is returned. */
campana_status campana_session_open(const char *path, const campana_options *options,
                                    campana_session **session);

/* The same with the bytes of the file, which the session does not keep. */
campana_status campana_session_open_memory(const void *file, size_t len_bytes,
                                           const campana_options *options,
                                           campana_session **session);

/* Writes what the model takes into values, of which there is room for capacity,
 * and how many inputs there are to *count. values may be NULL if capacity is 0,
 * count may be NULL. */
campana_status campana_session_inputs(const campana_session *session, campana_value *values,
                                      size_t capacity, size_t *count);

/* The same of what the model gives. */
campana_status campana_session_outputs(const campana_session *session, campana_value *values,
                                       size_t capacity, size_t *count);

/* Runs on these inputs, of which there must be as many as the model takes.
 * *result is NULL unless CAMPANA_OK is returned. */
campana_status campana_session_run(const campana_session *session, const campana_tensor *inputs,
                                   size_t input_count, campana_result **result);

/* Frees a session, NULL for none. Runs in other threads come to their end
 * first; results remain. */
campana_status campana_session_free(campana_session *session);

/* Writes the outputs, in the order of campana_session_outputs, into tensors, of
 * which there is room for capacity, and how many there are to *count, either of
 * which may be NULL as above. What the pointers lead to lasts as long as the
 * result, data is aligned to its elements. */
campana_status campana_result_outputs(const campana_result *result, campana_tensor *tensors,
                                      size_t capacity, size_t *count);

/* Frees a result with its outputs, NULL for none. */
campana_status campana_result_free(campana_result *result);

#ifdef __cplusplus
}
#endif

#endif

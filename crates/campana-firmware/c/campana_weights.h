/* Packed weights of one row. */
#ifndef CAMPANA_WEIGHTS_H
#define CAMPANA_WEIGHTS_H

#include "campana_kernels.h"

/* Decodes count weights of a row, from its start on. */
void campana_decode_row(const campana_weights *weights, uint32_t row, uint32_t count,
                        int8_t *values);

#endif

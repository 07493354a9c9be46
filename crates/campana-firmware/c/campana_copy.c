/* Moving elements. */
#include <string.h>

#include "campana_kernels.h"

void campana_run_fill(int8_t code, uint32_t count, int8_t *output)
{
    memset(output, code, count);
}

void campana_run_copy(const campana_block *block, const int8_t *input, int8_t *output)
{
    uint32_t index[CAMPANA_MAX_AXES] = {0};
    int axis = 0;
    input += block->from;
    output += block->to;
    while (axis >= 0) {
        *output = *input;
        for (axis = CAMPANA_MAX_AXES - 1; axis >= 0; axis--) {
            input += block->from_strides[axis];
            output += block->to_strides[axis];
            if (++index[axis] < block->extents[axis]) {
                break;
            }
            input -= block->from_strides[axis] * (int32_t)index[axis];
            output -= block->to_strides[axis] * (int32_t)index[axis];
            index[axis] = 0;
        }
    }
}

/* Counts the instructions of a run: the machine is started with one instruction a
 * nanosecond, and the timer of the system ticks at the clock of the board. NAME_run
 * is RUN, with as many inputs and outputs as ARGUMENTS names. */
#include <stdint.h>
#include <stdio.h>

#include HEADER

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xe000e010)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xe000e014)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xe000e018)
#define LARGEST UINT32_C(0xffffff)

static int8_t input[INPUT_LEN];
static float output[OUTPUT_LEN];

/* Ticks of some runs; below the timer's 24 bits. */
static uint32_t ticks_of(int runs)
{
    uint32_t start, ticks;
    SYSTICK_VALUE = 0;
    start = SYSTICK_VALUE;
    while (runs-- > 0) {
        RUN(input, output);
    }
    ticks = (start - SYSTICK_VALUE) & LARGEST;
    return ticks;
}

int main(void)
{
    uint32_t i, once, twice, state = 1;
    SYSTICK_RELOAD = LARGEST;
    SYSTICK_CONTROL = 5;
    for (i = 0; i < INPUT_LEN; i++) {
        state = state * UINT32_C(1664525) + UINT32_C(1013904223);
        input[i] = (int8_t)(state >> 24);
    }
    /* What begins and ends the count cancels. */
    once = ticks_of(1);
    twice = ticks_of(2);
    printf("%lu instructions\n", (unsigned long)((twice - once) * TICK_NS));
    return 0;
}

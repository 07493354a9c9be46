/* From reset to main on a Cortex-M that talks to its host by semihosting. */
#include <stdint.h>
#include <stdlib.h>

extern uint32_t stack_top, data_source, data_start, data_end, bss_start, bss_end;
extern int main(void);
extern void initialise_monitor_handles(void);

/* The register that lets coprocessors 10 and 11 (floats and vectors) be used. */
#define CPACR (*(volatile uint32_t *)0xe000ed88)

void reset(void);

static void fault(void)
{
    abort();
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &stack_top, reset, fault, fault, fault, fault, fault, fault,
    fault,      fault, fault, fault, fault, fault, fault, fault,
};

void reset(void)
{
    uint32_t *from = &data_source, *to;
    CPACR |= 0xfu << 20;
    __asm volatile("dsb\n\tisb");
    for (to = &data_start; to < &data_end; to++) {
        *to = *from++;
    }
    for (to = &bss_start; to < &bss_end; to++) {
        *to = 0;
    }
    initialise_monitor_handles();
    exit(main());
}

/* What newlib calls around main, and has nothing to do here. */
void _init(void)
{
}

void _fini(void)
{
}

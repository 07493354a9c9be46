#!/bin/sh
# Compiles a folder of campana export for a Cortex-M, runs its self-test in QEMU and
# counts the instructions of a run.
#   tools/firmware/run.sh FOLDER [m4 | m55]
# With a program in C as a third argument, runs that one instead, which finds its files
# where the script is run.
#   tools/firmware/run.sh FOLDER m4 PROGRAM.c
set -eu
folder=$1
cpu=${2:-m4}
here=$(cd "$(dirname "$0")" && pwd)
name=$(basename "$(ls "$folder"/*_test.c)" _test.c)
case $cpu in
    m4) board=an386 machine=mps2-an386 flags="-mcpu=cortex-m4 -mfloat-abi=soft" tick_ns=40 ;;
    m55) board=an547 machine=mps3-an547 flags="-mcpu=cortex-m55 -mfloat-abi=hard" tick_ns=31.25 ;;
    *) echo "no processor $cpu: use m4 or m55" >&2; exit 2 ;;
esac
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
sources=$(ls "$folder"/*.c | grep -v "_test\.c$")
optimize=${OPTIMIZE:--O2}
# shellcheck disable=SC2086
compile() {
    arm-none-eabi-gcc $flags -mthumb $optimize -std=c99 -Wall -Wextra -Werror \
        -ffunction-sections -fdata-sections -Wl,--gc-sections -nostartfiles \
        --specs=rdimon.specs -L "$here" -T "$here/$board.ld" -I "$folder" "$@"
}
run() {
    qemu-system-arm -machine "$machine" -nographic -monitor none -serial none \
        -semihosting-config enable=on,target=native -icount shift=0 -kernel "$1"
}
if [ $# -gt 2 ]; then
    # shellcheck disable=SC2086
    compile "$here/startup.c" $sources "$3" -o "$build/program.elf"
    run "$build/program.elf"
    exit
fi
upper=$(echo "$name" | tr '[:lower:]' '[:upper:]')
# shellcheck disable=SC2086
compile "$here/startup.c" $sources "$folder/${name}_test.c" -o "$build/test.elf"
run "$build/test.elf"
# shellcheck disable=SC2086
compile -DHEADER="\"$name.h\"" -DRUN="${name}_run" -DINPUT_LEN="${upper}_INPUT_LEN" \
    -DOUTPUT_LEN="${upper}_OUTPUT_LEN" -DTICK_NS="$tick_ns" \
    "$here/startup.c" "$here/count.c" $sources -o "$build/count.elf"
run "$build/count.elf"
# Code and constants of the network and its kernels alone.
for source in $sources; do
    # shellcheck disable=SC2086
    arm-none-eabi-gcc $flags -mthumb $optimize -std=c99 -I "$folder" -c "$source" \
        -o "$build/$(basename "$source" .c).o"
done
arm-none-eabi-size -t "$build"/*.o | awk 'END { print "flash " $1 + $2 " bytes, RAM " $2 + $3 " bytes" }'

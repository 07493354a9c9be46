#!/bin/sh
# Writes docs/results/NAME.md: every method at every width on one network, and the corrected models, each table under the
# command that makes it. What is finished is kept in target/results and taken from there when the script runs again.
#
#   tools/results/make.sh [NAME...]      all networks, or those named
#
# Needs `cargo build --release` and the folder in CAMPANA_SHARED (../shared). On two cores ResNet-20 takes about a quarter
# of an hour, the MobileNet some minutes, EfficientNet-Lite0 two hours.
set -eu
cd "$(dirname "$0")/../.."
shared=${CAMPANA_SHARED:-../shared}
campana=${CAMPANA:-target/release/campana}
scratch=target/results
mkdir -p "$scratch" docs/results

networks="cifar10-resnet20 cifar100-resnet20 imagenet-mobilenetv1-025 imagenet-mobilenetv1-025-nips \
imagenet-efficientnet-lite0 imagenet-efficientnet-lite0-nips"

choose() {
    case $1 in
    cifar10-resnet20)
        title="ResNet-20 on CIFAR-10" model=cifar10_resnet20_bn data=cifar10_test.bin samples=cifar10_calib.bin ;;
    cifar100-resnet20)
        title="ResNet-20 on CIFAR-100" model=cifar100_resnet20_bn data=cifar100_test.bin samples=cifar100_calib.bin ;;
    imagenet-mobilenetv1-025*)
        title="MobileNet v1 0.25 on ImageNet" model=imagenet_mobilenetv1_025_bn samples=imagenet_calib384 ;;
    imagenet-efficientnet-lite0*)
        title="EfficientNet-Lite0 on ImageNet" model=imagenet_efficientnet_lite0_bn samples=imagenet_calib384 ;;
    *)
        echo "no network '$1': one of $networks" >&2
        exit 2 ;;
    esac
    case $1 in
    imagenet-*-nips) data=imagenet_nips2017_500 ;;
    imagenet-*) data=imagenet_sample1000 ;;
    esac
}

# section NAME PART OPTION...: runs compare, and appends its command and tables.
section() {
    part=$scratch/$1-$2 page=docs/results/$1.md
    shift 2
    set -- compare "$shared/models/$model.onnx" --data "$shared/data/$data" "$@"
    [ -e "$part.md" ] ||
        "$campana" "$@" --resume "$part.journal" --csv "$part.csv" --html "$part.html" --markdown "$part.md.new" --force
    [ -e "$part.md" ] || mv "$part.md.new" "$part.md"
    {
        printf '\n```sh\ncampana %s\n```\n\n' "$(printf '%s ' "$@" | sed "s|$shared|../shared|g; s| \$||; s| --bits| \\\\\\n    --bits|")"
        cat "$part.md"
    } >>"$page"
}

# Every method by itself: `all` has the corrected form of auto too.
plain=ks,gaussian,laplace,ggd,kmeans,ecsq,minmax,mse,aciq,pwlq,pot,apot,nf,auto

for name in ${*:-$networks}; do
    choose "$name"
    page=docs/results/$name.md
    printf '# %s\n\nAll images of `%s`. Written by `tools/results/make.sh`; bold is\nwhat no smaller file equals. What the tables show is in [Results](../results.md).\n' \
        "$title" "$data" >"$page"
    printf '\n## Every method, no correction\n' >>"$page"
    section "$name" plain --bits 2,3,4,5,6,8 --methods "$plain" --granularity tensor,channel
    printf '\n## Corrected, on synthetic images (`+free`) and on sample images (`+calibrated`)\n' >>"$page"
    section "$name" corrected --bits 2,3,4 --methods auto+free,auto+calibrated \
        --granularity channel --calibrate "$shared/data/$samples" --samples 512
done

#!/bin/sh
# The coarse part of a whole-brain model for any MR contrast, from label maps alone: sh train.sh MAPS OUTPUT
# MAPS: the 20 label maps on which SynthSeg was trained, with labels.json. Not shipped: it wants many
# hours on a CPU, and we have not trained it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
e2enet train "$1" --output "$2" --fold all --plan "$here/plan.json" --base-channels 16 --optimizer adamw --lr 0.002 \
    --epochs 100 --iterations-per-epoch 250

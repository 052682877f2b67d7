#!/bin/sh
# Makes brain-any as it is shipped, the coarse part of a whole-brain model: hemispheres, cerebellum, brain-stem.
# sh train.sh MAPS OUTPUT
# MAPS: a folder with the 20 label maps on which SynthSeg was trained (github.com/BBillot/SynthSeg,
# data/training_label_maps). OUTPUT: an empty folder. Every image is synthesised: 1500 iterations at
# 4 mm, then 8100 at 3 mm, an hour and a half on one core. The first three of the five trainings
# had the ventricles as a sixth part, which counts as cerebrum since, so the weights will differ.
set -eu
maps=$1 output=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir "$output/brain_labels"
cp "$maps"/*.nii.gz "$here/labels.json" "$output/brain_labels"
train() { e2enet train "$output/brain_labels" --fold all --optimizer adamw --lr 0.002 --evolve-every 100 \
    --iterations-per-epoch 100 --metadata "$here/metadata.json" "$@"; }
further() { train --output "$output/$1/brain-any" --from "$output/$(($1 - 1))/brain-any" --plan "$here/plan.json" \
    --epochs "$2" --seed "$3"; }

train --output "$output/1/brain-any" --plan "$here/plan-4mm.json" --base-channels 12 --epochs 15
further 2 13 1
further 3 18 2
further 4 14 3
further 5 36 5

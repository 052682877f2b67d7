#!/bin/sh
# The coarse part of a whole-brain model for any MR contrast: hemispheres, cerebellum, brain-stem.
# sh train.sh MAPS OUTPUT
# MAPS: a folder with the 20 label maps on which SynthSeg was trained (github.com/BBillot/SynthSeg,
# data/training_label_maps). OUTPUT: an empty folder. Every image is synthesised: 1500 iterations at
# 4 mm, then 4500 at 3 mm, about an hour on one core. Not shipped: after 4600 iterations (with
# ventricles as a sixth part) the whole brain had a Dice of 0.90 on real heads; figures.json has all.
set -eu
maps=$1 output=$2 here=$(cd "$(dirname "$0")" && pwd)
mkdir "$output/brain_labels"
cp "$maps"/*.nii.gz "$here/labels.json" "$output/brain_labels"
train() { e2enet train "$output/brain_labels" --fold all --optimizer adamw --lr 0.002 --evolve-every 100 \
    --iterations-per-epoch 100 --metadata "$here/metadata.json" "$@"; }

train --output "$output/4mm/brain-any" --plan "$here/plan-4mm.json" --base-channels 12 --epochs 15
train --output "$output/3mm/brain-any" --from "$output/4mm/brain-any" --plan "$here/plan.json" --epochs 45 --seed 1

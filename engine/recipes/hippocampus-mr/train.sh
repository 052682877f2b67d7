#!/bin/sh
# Makes hippocampus-mr as it is shipped: sh train.sh DATASET OUTPUT
# DATASET: Dataset004_Hippocampus in nnU-Net's raw layout. OUTPUT: an empty folder.
# Seven trainings, each from the last: 7500 iterations of nnU-Net's recipe; 2100 and 1785 with robust
# patches, at levels 1 and 0.6; 4500, 4800, 4500 and 6000 with AdamW, at levels 0.5, 0.3, 0.5 and 0.4. About
# six hours on one core.
set -eu
dataset=$1 output=$2 here=$(cd "$(dirname "$0")" && pwd)
metadata="--metadata $here/metadata.json"

plan() { sed "s/\"robustness\": [0-9.]*/\"robustness\": $1/" "$here/plan.json" > "$output/plan-$1.json"; }
for level in 0.0 1.0 0.6 0.5 0.4 0.3; do plan $level; done

e2enet train "$dataset" --output "$output/1/hippocampus-mr" --fold all --plan "$output/plan-0.0.json" \
    --base-channels 16 --epochs 30 $metadata
e2enet train "$dataset" --output "$output/2/hippocampus-mr" --from "$output/1/hippocampus-mr" --fold all \
    --plan "$output/plan-1.0.json" --evolve-every 100 --epochs 20 --iterations-per-epoch 105 $metadata
e2enet train "$dataset" --output "$output/3/hippocampus-mr" --from "$output/2/hippocampus-mr" --fold all \
    --plan "$output/plan-0.6.json" --evolve-every 100 --epochs 17 --iterations-per-epoch 105 --seed 1 $metadata
e2enet train "$dataset" --output "$output/4/hippocampus-mr" --from "$output/3/hippocampus-mr" --fold all \
    --plan "$output/plan-0.5.json" --optimizer adamw --lr 0.001 --evolve-every 100 --epochs 30 \
    --iterations-per-epoch 150 --seed 2 $metadata
e2enet train "$dataset" --output "$output/5/hippocampus-mr" --from "$output/4/hippocampus-mr" --fold all \
    --plan "$output/plan-0.3.json" --optimizer adamw --lr 0.001 --evolve-every 100 --epochs 32 \
    --iterations-per-epoch 150 --seed 3 $metadata
e2enet train "$dataset" --output "$output/6/hippocampus-mr" --from "$output/5/hippocampus-mr" --fold all \
    --plan "$output/plan-0.5.json" --optimizer adamw --lr 0.001 --evolve-every 100 --epochs 30 \
    --iterations-per-epoch 150 --seed 4 $metadata
e2enet train "$dataset" --output "$output/7/hippocampus-mr" --from "$output/6/hippocampus-mr" --fold all \
    --plan "$output/plan-0.4.json" --optimizer adamw --lr 0.001 --evolve-every 100 --epochs 40 \
    --iterations-per-epoch 150 --seed 5 $metadata

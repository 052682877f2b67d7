#!/bin/sh
# Makes abdomen-mr as it is shipped: sh train.sh DATASET OUTPUT
# DATASET: Dataset020_ChaosT2 in nnU-Net's raw layout. OUTPUT: an empty folder.
# SGD finds the liver first and the small organs late: its training of 1800 iterations was left after
# 1000, and AdamW went on from there. About an hour and a half on a busy core.
set -eu
dataset=$1 output=$2 here=$(cd "$(dirname "$0")" && pwd)
metadata="--metadata $here/metadata.json"
sed 's/"robustness": [0-9.]*/"robustness": 0.3/' "$here/plan.json" > "$output/plan-0.3.json"

e2enet train "$dataset" --output "$output/1/abdomen-mr" --fold all --base-channels 12 --plan "$here/plan.json" \
    --epochs 9 --iterations-per-epoch 200 --evolve-every 90 $metadata --progress json |
    while read -r event; do case $event in *'"epoch": 5,'*) echo stop > "$output/1/abdomen-mr.run/control" ;; esac; done
e2enet export "$output/1/abdomen-mr.run" "$output/1/abdomen-mr"
e2enet train "$dataset" --output "$output/2/abdomen-mr" --from "$output/1/abdomen-mr" --fold all \
    --optimizer adamw --lr 0.002 --plan "$output/plan-0.3.json" --epochs 9 --iterations-per-epoch 100 \
    --evolve-every 100 $metadata

#!/bin/sh
# The whole road once, on the commands a newcomer would type. `make demo` calls it with nanocv on the PATH.
set -eu
step() { printf '\n\033[1m$ %s\033[0m\n' "$*"; "$@"; }

step nanocv data pull flowers
step nanocv data show flowers --out runs/demo/flowers.png
rm -rf runs/demo/lenet
step nanocv train --data flowers --model lenet --out runs/demo/lenet
step nanocv eval --model runs/demo/lenet --data flowers --split test
step nanocv infer data/flowers/test/rose/test-00001.jpg --model runs/demo/lenet --out runs/demo/annotated
step nanocv export onnx --model runs/demo/lenet --out runs/demo/lenet.onnx

cat <<'END'

Where everything is:
  images of the set        runs/demo/flowers.png       (the set itself: data/flowers)
  trained run              runs/demo/lenet             (config.yaml, curves.png, confusion.png, dvclive/)
  checkpoint and graph     runs/demo/lenet/checkpoints/best.safetensors, runs/demo/lenet/model.onnx
  annotated image          runs/demo/annotated/test-00001.jpg
  exported graph           runs/demo/lenet.onnx
END

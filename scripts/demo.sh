#!/bin/sh
# From nothing to a model of one's own that answers, on the commands a newcomer would type. `make demo` calls it with
# nanocv on the PATH.
set -eu
image=data/flowers/test/rose/test-00001.jpg

step() { # what it is and how long it takes on 2 cores; then the command
    printf '\n%s\n' "$1"
    shift
    printf '\033[1m$ %s\033[0m\n' "$*"
    "$@"
}

rm -rf runs/demo/lenet
echo 'Four steps, a bit over two minutes on 2 cores.'
step '1. The images, drawn by nanocv itself, and a sheet of them: half a minute.' \
    nanocv data show flowers --out runs/demo/flowers.png
step '2. What pretrained weights, which lie in this repository, say of one of them: a second.' \
    nanocv infer "$image"
step '3. A model of your own: trained, measured on images that it has never seen, exported as ONNX: a minute and a half.' \
    nanocv train --data flowers --model lenet --out runs/demo/lenet
step '4. What your model says of that image: a second.' \
    nanocv infer "$image" --model runs/demo/lenet --out runs/demo/annotated

cat <<'END'

Where everything is:
  images of the set        runs/demo/flowers.png       (the set itself: data/flowers)
  trained run              runs/demo/lenet             (config.yaml, curves.png, confusion.png, dvclive/)
  checkpoint and graph     runs/demo/lenet/checkpoints/best.safetensors, runs/demo/lenet/model.onnx
  annotated image          runs/demo/annotated/test-00001.jpg

What to try next, all with the model just trained (. .venv/bin/activate first):
  nanocv eval              its figures, class by class          some seconds
  nanocv analyze flops     what each layer costs                some seconds
and with the packages of a server, by pip install -c constraints.txt -e '.[all]':
  nanocv serve run         the four pretrained models           ready in some seconds
  nanocv bench server      the fastest way to serve yours       two minutes
END

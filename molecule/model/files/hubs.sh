#!/bin/sh
# Makes caches of hubs below $1: one model whole, one without one of its shards, one in ModelScope's cache.
set -eu
weights='{"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}'

hugging_face() { # name, commit, number of layers
  model=$root/huggingface/hub/models--org--$1
  mkdir -p "$model/refs" "$model/snapshots/$2" "$model/blobs"
  printf %s "$2" > "$model/refs/main"
  cd "$model/snapshots/$2"
  echo "{\"num_hidden_layers\": $3}" > config.json
  echo "$weights" > model.safetensors.index.json
  # As the hub's own program does: files are links into blobs. Of the missing one there is the link alone.
  echo weights > ../../blobs/1
  ln -s ../../blobs/1 model-1-of-2.safetensors
  ln -s ../../blobs/2 model-2-of-2.safetensors
}

root=$1
hugging_face whole c0ffee 36
echo weights > "$root/huggingface/hub/models--org--whole/blobs/2"
hugging_face half decade 27

model=$root/modelscope/hub/models/org/Model-1___5
mkdir -p "$model"
echo '{"num_hidden_layers": 24}' > "$model/config.json"
echo weights > "$model/model.safetensors"

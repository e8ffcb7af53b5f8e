#!/bin/bash
# The first eight minutes on a GPU, in the root of a checkout: `OUT=folder bash tests/gpu/run/run.sh`.
# Torch, triton and the package's dependencies are installed; each part has a log in the folder, and a time limit.
set -u
: "${OUT:=gpu-run}"
here=tests/gpu/run
mkdir -p "$OUT"
export PYTHONUNBUFFERED=1 PYTHONPATH="$PWD:$PWD/$here" KINETO_LOG_LEVEL=99 OMP_NUM_THREADS=8
export TRITON_CACHE_DIR="${TMPDIR:-/tmp}/triton-warm"
models=transformer,seqboat,seqboat-fused

part() { # name, limit in seconds, command …
    local name=$1 limit=$2 begin=$SECONDS
    shift 2
    {
        echo "=== $*"
        timeout -k 5 "$limit" "$@" 2>&1
        echo "=== exit code $?, $((SECONDS - begin)) s"
    } >> "$OUT/$name.log"
    tail -n 12 "$OUT/$name.log" | cut -c1-400
}

bench() { # name, limit in seconds, options of `bench` …
    local name=$1 limit=$2
    shift 2
    part "$name" "$limit" python3 -m bench "$@"
}

# Machine and settings.
part machine 15 nvidia-smi
part machine 15 nvidia-smi -q -d CLOCK,POWER,PERFORMANCE,COMPUTE
bench machine 30 doctor --device cuda

# Whether the kernels are right: tests of the GPU, and the interpreter's tests on compiled kernels.
part tests 110 python3 -m pytest -m gpu tests/gpu -q -n 5 -p no:cacheprovider &
part kernels 110 python3 -m pytest tests/implementations/kernels -k "triton and not compiles" -q -n 8 -p no:cacheprovider &
wait

# What the models do there, without the harness.
part probe 75 python3 "$here/probe.py" spikes ema graph
part steps 95 python3 "$here/probe.py" steps

# The harness: with intervals, then as a newcomer runs it, with a cold cache of kernels.
bench run 105 run --suite lra-text-4k --device cuda --impl "$models" --budget 75s --out "$OUT/run.jsonl"
TRITON_CACHE_DIR=$(mktemp -d) bench quick 60 run --suite lra-text-4k --device cuda --impl "$models" --quick --out "$OUT/quick.jsonl"

# Faults: too little shared memory, too little memory, an illegal access in the middle of a run.
part faults 25 python3 "$here/probe.py" faults
bench faults 40 run --suite ci --device cuda --impl transformer,bad_model:build --quick --out "$OUT/bad.jsonl"
echo "$SECONDS s in all"

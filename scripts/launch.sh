#!/usr/bin/env bash
# Starts a training run on every GPU of one machine or many.
#
#   scripts/launch.sh RECIPE.yaml [key=value ...]
#
# One machine:    scripts/launch.sh scripts/recipes/finetune_som_mix_7b.yaml
# Without a GPU:  NPROC=2 scripts/launch.sh scripts/recipes/cpu_smoke.yaml deepspeed=scripts/deepspeed/zero2.json
# Slurm:          sbatch scripts/slurm/finetune.sbatch (one task a node; everything is read from SLURM_*)
# By hand:        on each machine K of N:  NNODES=N NODE_RANK=K MASTER_ADDR=host0 scripts/launch.sh ...
#
# Environment, each with its default:
#   NPROC        processes on this machine          (the number of its GPUs; 1 without any)
#   NNODES       machines                           (SLURM_NNODES, else 1)
#   NODE_RANK    number of this machine, from 0     (SLURM_NODEID, else 0)
#   MASTER_ADDR  host name of machine 0             (the first of SLURM_JOB_NODELIST, else 127.0.0.1)
#   MASTER_PORT  a free port of machine 0           (20000 + SLURM_JOB_ID % 10000, else 29500)
#   PYTHON       interpreter                        (.venv/bin/python of this repository if it exists, else python)
#   DRY_RUN      1 prints the command instead of running it
set -euo pipefail

usage() { sed -n '2,/^set -euo/{/^#/s/^# \{0,1\}//p}' "$0"; }

case "${1:-}" in
  "" | -h | --help) usage; exit 0 ;;
esac

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
default_python=python
if [[ -x "$root/.venv/bin/python" ]]; then default_python="$root/.venv/bin/python"; fi
python=${PYTHON:-$default_python}

count_gpus() {
  if [[ -n "${CUDA_VISIBLE_DEVICES+set}" ]]; then  # set but empty, or -1, hides every GPU
    tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c '^[^-]' || true
  else
    { nvidia-smi --list-gpus 2>/dev/null || true; } | grep -c '^GPU ' || true
  fi
}

gpus=$(count_gpus)
nproc=${NPROC:-$((gpus > 0 ? gpus : 1))}
nnodes=${NNODES:-${SLURM_NNODES:-1}}
node_rank=${NODE_RANK:-${SLURM_NODEID:-0}}
master_port=${MASTER_PORT:-$((${SLURM_JOB_ID:-9500} % 10000 + 20000))}

master_addr=${MASTER_ADDR:-127.0.0.1}
if [[ -z "${MASTER_ADDR:-}" && -n "${SLURM_JOB_NODELIST:-}" ]]; then
  master_addr=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
fi
if ((nnodes > 1)) && [[ "$master_addr" == 127.0.0.1 ]]; then
  echo "error: $nnodes machines need MASTER_ADDR, the host name of machine 0." >&2
  exit 2
fi

if ((gpus == 0)); then
  export DS_ACCELERATOR=cpu
fi
# DeepSpeed compiles small operators on first use, and looks for ninja on the PATH.
PATH="$(dirname "$(command -v "$python")"):$PATH"
export PATH OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"

command=("$python" -m torch.distributed.run
  --nnodes "$nnodes" --node_rank "$node_rank" --nproc_per_node "$nproc"
  --master_addr "$master_addr" --master_port "$master_port"
  -m train "$@")
if [[ "${DRY_RUN:-0}" == 1 ]]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
exec "${command[@]}"

#!/bin/bash
# One machine with eight GPUs: sbatch one_node.sh. Queued again after a time limit, it goes on where it stopped.
#SBATCH --job-name=semikit
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -e

RUN=runs/cityscapes-1_16
# SLURM asks to stop 120 s before the limit: the run saves and ends with 130.
if [ -e "$RUN/config.yaml" ]; then
  exec srun semikit train seg --resume "$RUN" --gpus 8
fi
exec srun semikit train seg --preset cityscapes-1_16-dinov2-s --root /data/cityscapes --gpus 8 --workers 6 --out "$RUN"

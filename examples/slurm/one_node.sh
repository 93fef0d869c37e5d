#!/bin/bash
# One machine with eight GPUs: sbatch one_node.sh. When a machine fails SLURM queues it again, when the time is over this
# script does; it goes on where it stopped.
#SBATCH --job-name=semikit
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=TERM@120

RUN=runs/cityscapes-1_16
if [ -e "$RUN/config.yaml" ]; then
  ARGUMENTS=(--resume "$RUN")
else
  ARGUMENTS=(--preset cityscapes-1_16-dinov2-s --root /data/cityscapes --workers 6 --out "$RUN")
fi
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" semikit train seg "${ARGUMENTS[@]}" --gpus 8
CODE=$?
# SLURM asks the run to stop 120 s before the limit: it saves and ends with 130. --requeue alone queues nothing then.
if [ "$CODE" -eq 130 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"

#!/bin/bash
# Four machines with eight GPUs each, joined by torchrun's rendezvous: sbatch many_nodes.sh.
# The run folder and the data have to lie where all machines see them. SLURM queues it again when a machine fails, not
# when the time is over: sbatch --dependency=singleton many_nodes.sh, several times, goes on where the job before stopped.
#SBATCH --job-name=semikit
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120
set -e

RUN=runs/ade20k-all
HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# A process that dies takes the others along; torchrun starts all of them again, up to three times, and the run goes on
# from its last checkpoint by itself.
TORCHRUN="torchrun --nnodes=$SLURM_NNODES --nproc-per-node=8 --max-restarts=3
  --rdzv-backend=c10d --rdzv-endpoint=$HEAD:29500 --rdzv-id=$SLURM_JOB_ID"
if [ -e "$RUN/config.yaml" ]; then
  exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" $TORCHRUN -m semikit train seg --resume "$RUN"
fi
exec srun --cpus-per-task="$SLURM_CPUS_PER_TASK" $TORCHRUN \
  -m semikit train seg --dataset ade20k --labels all --unlabeled coco --batch 32 --workers 6 --out "$RUN"

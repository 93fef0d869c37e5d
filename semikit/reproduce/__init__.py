"""The paper's tables as data: which trainings they are made of, the plan of one, a run beside what was published."""

"""What each process of `torchrun distributed_worker.py JOBS` does: trains every job, and writes down its own state.

JOBS is a JSON file: a list of `{"recipe", "output", "overrides"}`. A process of rank r takes the folder `output/rank-r` for
itself, so that it shows who writes; its networks, average and optimisers go into `output/state-r.safetensors`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import ganzoo.training.run as run_module
from ganzoo.training.state import _pack_optimizers
from ganzoo.utils.files import save_tensors

BUILD_TRAINER = run_module.build_trainer


def main(jobs: list[dict]) -> None:
    rank = os.environ["RANK"]
    built = []

    def build_and_keep(*arguments):
        family, trainer = BUILD_TRAINER(*arguments)
        built.append(trainer)
        return family, trainer

    run_module.build_trainer = build_and_keep
    run_module.write_report = lambda folder: None  # drawing it takes longer than the whole run; test_report.py has it
    for job in jobs:
        output = Path(job["output"])
        run = run_module.train(job["recipe"], output=output / f"rank-{rank}", quiet=True, **job["overrides"])
        assert run.finished
        trainer = built[-1]
        tensors, numbers = _pack_optimizers(trainer.optimizers)
        assert not numbers
        for name, module in trainer.modules.items():
            tensors |= {f"{name}.{key}": tensor.clone() for key, tensor in module.state_dict().items()}
        save_tensors(output / f"state-{rank}.safetensors", tensors)


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))

"""As much of SLURM as submitit needs: sbatch with arrays and `afterok`, srun, squeue, sacct, scancel; on one machine.

The commands lie in a folder for PATH, what is queued in its `queue`. It is no SLURM: it shows that what we queue is
well formed, begins in the right order and runs in processes of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scancel", "scontrol")
QUEUE = Path(__file__).parent / "queue"
ENDED = ("COMPLETED", "FAILED", "CANCELLED")


def install(folder: Path) -> None:
    """Put the commands into `folder`."""
    folder.mkdir(parents=True)
    (folder / "queue").mkdir()
    (folder / "fake_slurm.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    for name in COMMANDS:
        path = folder / name
        path.write_text(
            f'#!/bin/sh\nexec "{sys.executable}" -S "{folder}/fake_slurm.py" {name} "$@"\n', encoding="utf-8"
        )
        path.chmod(0o755)


def sbatch(script: str) -> None:
    text = Path(script).read_text(encoding="utf-8")
    flags = {key: value.strip("'\"") for key, value in re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", text, re.M)}
    number = 1000 + len(list(QUEUE.glob("*.sh")))
    (QUEUE / f"{number}.sh").write_text(text, encoding="utf-8")
    (QUEUE / f"{number}.json").write_text(json.dumps(flags), encoding="utf-8")
    last = int(re.match(r"0-(\d+)", flags["array"])[1]) if "array" in flags else None
    for task in [None] if last is None else range(last + 1):
        name = str(number) if task is None else f"{number}_{task}"
        state(name, "PENDING")
        command = [sys.executable, "-S", __file__, "_run", str(number), "" if task is None else str(task)]
        quiet = subprocess.DEVNULL
        subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    print(f"Submitted batch job {number}")


def _run(number: str, task: str) -> None:
    """One task of a job, from the queue to its end."""
    name = f"{number}_{task}" if task else number
    flags = json.loads((QUEUE / f"{number}.json").read_text(encoding="utf-8"))
    (QUEUE / f"{name}.pid").write_text(str(os.getpid()), encoding="utf-8")
    kind, *before = flags.get("dependency", "").split(":")
    assert kind in ("", "afterok")
    while any(state(one) not in ENDED for one in before):
        time.sleep(0.05)
    if any(state(one) != "COMPLETED" for one in before):
        state(name, "CANCELLED")
        return
    state(name, "RUNNING")
    environment = os.environ | {"SLURM_JOB_ID": number, "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}
    environment |= {"SLURM_NODEID": "0", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "FAKE_SLURM_NAME": name}
    environment |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": task} if task else {}
    ended = subprocess.run(["bash", str(QUEUE / f"{number}.sh")], env=environment, check=False)
    state(name, "COMPLETED" if ended.returncode == 0 else "FAILED")


def srun(*arguments: str) -> None:
    """Run a task, its output where submitit looks for it."""
    command, names = list(arguments), {}
    while command[0].startswith("--"):
        flag = command.pop(0)
        if flag in ("--output", "--error"):
            names[flag] = command.pop(0)
    number, _, task = os.environ["FAKE_SLURM_NAME"].partition("_")
    for flag, stream in (("--output", 1), ("--error", 2)):
        path = names[flag]
        for mark, value in (("%j", number), ("%A", number), ("%a", task), ("%t", "0")):
            path = path.replace(mark, value)
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
    os.execvp(command[0], command)


def squeue(*arguments: str) -> None:
    wanted = arguments[arguments.index("--name") + 1]
    for path in QUEUE.glob("*.state"):
        flags = json.loads((QUEUE / f"{path.stem.split('_')[0]}.json").read_text(encoding="utf-8"))
        if flags["job-name"] == wanted and state(path.stem) not in ENDED:
            print(path.stem)


def sacct(*arguments: str) -> None:
    print("JobID|State|NodeList")
    for path in QUEUE.glob("*.state"):
        print(f"{path.stem}|{state(path.stem)}|here")


def scancel(name: str) -> None:
    for path in QUEUE.glob(f"{name}*.pid"):
        if state(path.stem) not in ENDED:
            os.killpg(int(path.read_text(encoding="utf-8")), signal.SIGKILL)
            state(path.stem, "CANCELLED")


def state(name: str, becomes: str | None = None) -> str:
    path = QUEUE / f"{name}.state"
    if becomes is not None:
        path.with_suffix(".new").write_text(becomes, encoding="utf-8")
        path.with_suffix(".new").replace(path)
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])

"""What of a sweep travels to a worker, and how: processes of this machine (loky) or a Dask cluster.

A worker of a cluster gets notebook and data by value and gives the run back by value, so no disk is shared.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers import InputError, files
from helpers.commands import execution, plans

Answer = tuple[str, int, str, bytes]


class Broken(Exception):
    """A worker died; ``begun`` names the runs that were on a worker then, or next in line."""

    def __init__(self, kind: str, begun: Sequence[str]) -> None:
        super().__init__(kind)
        self.begun = list(begun)


@dataclass(frozen=True)
class Cluster:
    """Where runs are executed.

    Attributes:
        backend: ``loky``, processes here, or ``dask``.
        jobs: how many runs at the same time, here; a Dask cluster runs as many as it has threads.
        scheduler: the address of a Dask cluster.
    """

    backend: str = "loky"
    jobs: int = 1
    scheduler: str | None = None

    def __post_init__(self) -> None:
        if (self.backend == "dask") != bool(self.scheduler):
            raise InputError("--backend dask and --scheduler ADDRESS go together: give both or none.")
        if self.backend == "dask" and self.jobs > 1:
            raise InputError(
                "--jobs is for this machine, a Dask cluster uses all threads of its workers: leave it out."
            )

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Within it, joblib sends its calls there.

        Raises:
            InputError: nobody answers at the scheduler's address, or Dask is not installed.
        """
        import joblib

        if self.backend == "loky":
            with joblib.parallel_config("loky", n_jobs=self.jobs):
                yield
            return
        with _client(self.scheduler), joblib.parallel_config("dask"):
            yield


def _client(address: str | None) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--backend dask needs the package distributed: pip install distributed.") from None
    try:
        client = Client(address, timeout=5, set_as_default=True)
    except (OSError, ValueError, TimeoutError):
        raise InputError(
            f"No Dask scheduler answers at {address}: check the address, or start dask scheduler."
        ) from None
    try:
        client.wait_for_workers(1, timeout=60)
    except TimeoutError:
        client.close()
        raise InputError(f"The Dask scheduler at {address} has no workers: start dask worker {address}.") from None
    return client


@dataclass(frozen=True)
class Job:
    """One run as it travels to a worker.

    Attributes:
        name, given, options: what ``python -m helpers run`` is told.
        notebook: its path here, or its file name if it travels.
        folder: the folder of all runs here; None sends notebook and data along, and the run back.
        files: relative path to content of what travels.
        sweep: the process that sent it.
    """

    name: str
    given: dict[str, Any] = field(repr=False)  # a cluster may log a job
    options: tuple[str, ...]
    notebook: str
    folder: str | None
    files: dict[str, bytes] = field(repr=False)
    sweep: int


def run_one(job: Job) -> Answer:
    """Executes a run in a process of its own, on whatever machine this is.

    Returns:
        The run's name, its exit status, the last line it said, and the run's folder as a zip file (empty here).
    """
    if job.folder:
        if job.sweep != os.getpid():
            _end_with(job.sweep)
        return (job.name, *_call(job, job.notebook, os.getcwd(), job.folder), b"")
    try:
        with tempfile.TemporaryDirectory(prefix="helpers-sweep-") as place:
            _unpack(job, Path(place))
            status, said = _call(job, job.notebook, place, str(Path(place, ".runs")))
            return job.name, status, said, _pack(Path(place, ".runs"), job.name)
    except OSError as error:
        return job.name, 2, f"the worker cannot write ({error.strerror}): free space there", b""
    except InputError as error:
        return job.name, 2, str(error), b""


def _unpack(job: Job, place: Path) -> None:
    """Writes the files that came along.

    Raises:
        InputError: one of them would lie outside the place.
    """
    for name, content in job.files.items():
        path = place / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"The file {name} lies outside the folder of the sweep: copy it there.")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def _call(job: Job, notebook: str, folder: str, runs_folder: str) -> tuple[int, str]:
    words = [sys.executable, "-m", "helpers", "run", notebook, "--name", job.name, "-f", "-"]
    words += [
        "--with-parent",
        str(os.getpid()),
        *job.options,
    ]
    # A session of its own: Ctrl-C reaches the sweep alone, and its runs see their parent go.
    process = subprocess.Popen(
        words, cwd=folder, env=os.environ | {"HELPERS_RUNS": runs_folder}, start_new_session=True,
        text=True, encoding="utf-8", errors="replace",
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    said = process.communicate(json.dumps(job.given))[1].strip().splitlines()
    return process.returncode, (said or [""])[-1].removeprefix("error: ")


@functools.cache
def _end_with(sweep: int) -> None:
    """Ends this worker when the sweep is gone; its run, in turn, sees the worker go and stops in order."""
    execution.end_with_parent(sweep)


def _pack(folder: Path, name: str) -> bytes:
    """The finished or failed run below a folder of runs, as a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for run in (*folder.glob(f"*/{name}"), *folder.glob(f"*/{name}.failed")):
            for file in run.rglob("*"):
                archive.write(file, file.relative_to(run))
    return content.getvalue()


def pack_job(order: plans.Plan, options: Sequence[str], cluster: Cluster) -> Job:
    """A checked run as it travels.

    Raises:
        InputError: it names a file that does not travel.
    """
    here = cluster.backend == "loky"
    notebook = str(order.notebook) if here else order.notebook.name
    folder = str(files.runs_root()) if here else None
    options = ("--update", "--resume", *options)
    return Job(order.name, order.given, options, notebook, folder, _cargo(order, here), os.getpid())


def _cargo(order: plans.Plan, here: bool) -> dict[str, bytes]:
    """Notebook and data that travel; none to a worker on this machine, and none that has an absolute path."""
    if here:
        return {}
    cargo = {order.notebook.name: order.notebook.read_bytes()}
    for value in order.given.values():
        for item in value if isinstance(value, list) else [value]:
            found = [] if Path(str(item)).is_absolute() else plans.named_files(item)
            if found and ".." in Path(item).parts:
                raise InputError(f"{item} lies outside this folder and does not travel to a cluster: copy it here.")
            local = [file for file in found if file.is_relative_to(Path.cwd())]
            cargo |= {str(file.relative_to(Path.cwd())): file.read_bytes() for file in local}
    return cargo


def spread(jobs: Sequence[Job]) -> Iterator[Answer]:
    """The answers of the runs as they end.

    Raises:
        Broken: a worker died, or the pool did.
    """
    import joblib

    begun: dict[str, None] = {}

    def calls() -> Iterator[Any]:
        for job in jobs:
            begun[job.name] = None
            yield joblib.delayed(run_one)(job)

    # No more is handed out than can run, so that after a death only what had begun is under suspicion.
    parallel = joblib.Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    with contextlib.closing(parallel(calls())) as answers:
        while True:
            try:
                answer = next(answers)
            except StopIteration:
                return
            except Exception as error:  # each backend has its own for a worker that died
                raise Broken(type(error).__name__, list(begun)) from error
            begun.pop(answer[0])
            yield answer

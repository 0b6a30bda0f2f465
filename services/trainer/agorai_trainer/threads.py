"""joblib's parallel loops (scikit-learn's `n_jobs`) on plain threads.

joblib's own ways start processes, or make semaphores that are files in shared memory; both are denied here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from joblib.parallel import ParallelBackendBase  # type: ignore[attr-defined]  # its documented home

_joblib = importlib.import_module("joblib")
_REPLACED = ("threading", "loky", "multiprocessing")
_THREADS_PER_PROCESSOR = 4


class _Threads(ParallelBackendBase):
    """A joblib backend on `concurrent.futures`; a loop inside a loop runs one by one."""

    supports_retrieve_callback = True
    supports_sharedmem = True
    uses_threads = True
    _pool: ThreadPoolExecutor | None = None

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Give the number of threads that `n_jobs` asks for: negative ones count back from all processors."""
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 has no meaning")
        processors = int(_joblib.cpu_count())
        wanted = 1 if n_jobs is None else n_jobs if n_jobs > 0 else max(processors + 1 + n_jobs, 1)
        return min(wanted, _THREADS_PER_PROCESSOR * processors)

    def configure(
        self,
        n_jobs: int | None = 1,
        parallel: object = None,
        prefer: object = None,
        require: object = None,
        **_settings: object,
    ) -> int:
        """Start as many threads as one loop needs."""
        del prefer, require
        self.parallel = parallel
        threads = self.effective_n_jobs(n_jobs)
        self._pool = ThreadPoolExecutor(threads)
        return threads

    def submit(
        self, func: Callable[[], object], callback: Callable[[Future[object]], object] | None = None
    ) -> Future[object]:
        """Have one piece of a loop done."""
        if self._pool is None:
            raise RuntimeError("the loop has ended")
        future = self._pool.submit(func)
        if callback is not None:
            future.add_done_callback(callback)
        return future

    def retrieve_result_callback(self, out: Future[object]) -> object:
        """Give the result of one piece, or raise what it raised."""
        return out.result()

    def terminate(self) -> None:
        """End the loop's threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """Give up what has not begun."""
        self.terminate()
        if ensure_ready:
            self.configure(n_jobs=getattr(self.parallel, "n_jobs", 1), parallel=self.parallel)

    def get_nested_backend(self) -> tuple[object, None]:
        """Give what a loop inside a loop runs on."""
        sequential = importlib.import_module("joblib.parallel").SequentialBackend
        return sequential(nesting_level=(self.nesting_level or 0) + 1), None


def use_threads_only() -> None:
    """Have every parallel loop of this process run on threads, from now on."""
    for name in _REPLACED:
        _joblib.register_parallel_backend(name, _Threads)

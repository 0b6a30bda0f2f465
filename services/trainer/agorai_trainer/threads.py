"""joblib's parallel loops (scikit-learn's `n_jobs`) on plain threads.

joblib's own ways start processes, or make semaphores that are files in shared memory; the sandbox denies both.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager

from joblib import cpu_count, parallel_config
from joblib.parallel import ParallelBackendBase, SequentialBackend


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
        processors = int(cpu_count())
        wanted = 1 if n_jobs is None else n_jobs if n_jobs > 0 else max(processors + 1 + n_jobs, 1)
        return min(wanted, 4 * processors)

    def configure(
        self, n_jobs: int | None = 1, parallel: object = None, **_settings: object
    ) -> int:  # joblib's own signature
        """Start as many threads as one loop needs."""
        self.parallel = parallel
        threads = self.effective_n_jobs(n_jobs)
        self._pool = ThreadPoolExecutor(threads)
        return threads

    def submit(
        self, func: Callable[[], object], callback: Callable[[Future[object]], None] | None = None
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
            self.configure(n_jobs=self.parallel.n_jobs, parallel=self.parallel)

    def get_nested_backend(self) -> tuple[SequentialBackend, None]:
        """Give what a loop inside a loop runs on."""
        return SequentialBackend(nesting_level=(self.nesting_level or 0) + 1), None


def threads_only() -> AbstractContextManager[object]:
    """Have every parallel loop within run on threads."""
    context: AbstractContextManager[object] = parallel_config(backend=_Threads(nesting_level=0))
    return context

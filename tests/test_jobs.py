"""A pool of processes: its processes are quiet, and end with the block, with an error, or with this
process."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from crystalgan.errors import InputError, TrainingError
from crystalgan.jobs import MOST, Pool

NAP = 300  # s, longer than any test


def alive(pid):
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def gone(pid, seconds=300):
    """Whether a process ends; it is waited for."""
    end = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def test_functions_run_in_quiet_processes_of_one_thread(tmp_path):
    with Pool(1, os.chdir, (tmp_path,)) as pool:
        assert pool.submit(os.getcwd).result() == str(tmp_path)
        found = {future: future.result() for future in [pool.submit(pow, 2, k) for k in range(4)]}
        assert list(found.values()) == [1, 2, 4, 8]
        pending = {pool.submit(pow, 3, k): k for k in range(4)}
        assert {pending[f]: value for f, value in pool.completed(pending)} == {
            k: 3**k for k in range(4)
        }
        pid = pool.submit(os.getpid).result()
        assert pid != os.getpid()
        assert pool.submit(os.getenv, "OMP_NUM_THREADS").result() == "1"
        # Ctrl-C does not reach it
        blocked = pool.submit(signal.pthread_sigmask, signal.SIG_BLOCK, []).result()
        assert signal.SIGINT in blocked
    assert gone(pid)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_error_in_the_block_ends_what_is_under_way():
    pids = []

    def fail():
        with Pool() as pool:
            pids.append(pool.submit(os.getpid).result())
            pool.submit(time.sleep, NAP)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert gone(pids[0])


def test_a_process_that_is_ended_from_outside_is_a_sentence():
    with pytest.raises(TrainingError, match="ended from outside"), Pool() as pool:
        list(pool.completed([pool.submit(os._exit, 9)]))
    with pytest.raises(BrokenProcessPool), Pool() as pool:
        pool.submit(os._exit, 9).result()


def test_processes_end_with_the_one_that_asked():
    code = (
        "import os, time\n"
        "from crystalgan.jobs import Pool\n"
        "with Pool() as pool:\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        f"    pool.submit(time.sleep, {NAP}).result()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as asking:
        pid = int(asking.stdout.readline())
        assert alive(pid)
        asking.kill()
    assert gone(pid)


@pytest.mark.parametrize("count", [0, -1, MOST + 1])
def test_a_number_of_processes_that_cannot_be_is_a_sentence(count):
    with pytest.raises(InputError, match=f"{count} processes were asked for"):
        Pool(count)

"""A folder has one writer; the next one says for whom it waits."""

import os
import signal
import subprocess
import sys
import threading

from nas import lock
from nas.lock import locked

HOLDER = """
import sys, time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
spec = spec_from_file_location("lock", sys.argv[2])  # alone: to import nas takes seconds
module = module_from_spec(spec)
spec.loader.exec_module(module)
with module.locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_waits_and_says_for_whom(tmp_path):
    said, order, waiting = [], [], threading.Event()

    def say(sentence):
        said.append(sentence)
        waiting.set()

    def second():
        with locked(tmp_path / "run", say) as waited:
            order.append(("second", waited))

    thread = threading.Thread(target=second)
    with locked(tmp_path / "run", said.append) as waited:
        thread.start()
        assert waiting.wait(60)
        order.append(("first", waited))
    thread.join(60)
    assert order == [("first", False), ("second", True)]
    assert len(said) == 1
    assert f"run is in use by process {os.getpid()} on " in said[0]
    assert not (tmp_path / "run").exists()  # nothing was written


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    folder = tmp_path / "run"
    command = [sys.executable, "-c", HOLDER, str(folder), lock.__file__]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (folder / ".lock").exists()
    said = []
    with locked(folder, said.append) as waited:
        assert (waited, said) == (False, [])
    assert list(folder.iterdir()) == []


def test_what_dead_processes_half_wrote_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, alive = tmp_path / "checkpoints" / f".step.json.{ended.pid}.part", tmp_path / f".x.{os.getpid()}.part"
    folder, foreign = tmp_path / f".best.{ended.pid}.part", tmp_path / ".mine.part"
    for path in (dead, alive, folder / "model.onnx", foreign):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    with locked(tmp_path, print):
        assert [dead.exists(), folder.exists(), alive.exists(), foreign.exists()] == [False, False, True, True]
    assert dead.parent.exists()

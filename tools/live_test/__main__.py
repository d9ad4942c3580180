# SPDX-License-Identifier: MIT OR Apache-2.0
"""Feeds speech to nemostt in real time, as cameras, networks and players do, and checks the output.

    tools/live_test [CHECK | GROUP ...]        (default: all; about 15 minutes)

    latency     words of a live source and of an RTSP server arrive within the latency of the LATENCY query
    muted       live video with text while its audio is muted: no frame is late or missing, files are complete
    sources     sources that pause, stall, are late, repeat segments, switch; long buffers, long utterances
    playback    files behind a tee with default queues start, and all words arrive
    readme      the pipelines in README.md
    live_command  nemostt live: an RTSP stream of ten minutes, cut twice
    srt         nemostt live: SRT, as caller and listener, whose sender is killed
    microphone  nemostt live and a pipeline with a microphone of PulseAudio that is muted and unplugged
    examples    the examples in Python that have a test source

Uses the plugin of "make build" unless GST_PLUGIN_PATH names another folder. Do not replace it while the checks run.
Needs the system's Python, which has PyGObject. Each check runs in a separate process with fatal GLib warnings. The exit
code is 1 if a check failed. Checks that are skipped because an element is missing are listed.
"""

import argparse
import os
import platform
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from harness import ALL, Checks, Gst

import examples  # noqa: F401
import latency  # noqa: F401
import live_command  # noqa: F401
import microphone  # noqa: F401
import muted  # noqa: F401
import playback  # noqa: F401
import readme  # noqa: F401
import sources  # noqa: F401
import srt  # noqa: F401

GROUPS = ("latency", "muted", "sources", "playback", "readme", "live_command", "srt", "microphone", "examples")

# Debian and Ubuntu packages of the elements that most checks need.
ELEMENTS = {
    "appsrc": "gstreamer1.0-plugins-base",
    "audiotestsrc": "gstreamer1.0-plugins-base",
    "audioresample": "gstreamer1.0-plugins-base",
    "wavparse": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "rtpL16pay": "gstreamer1.0-plugins-good",
    "rtpjitterbuffer": "gstreamer1.0-plugins-good",
    "udpsrc": "gstreamer1.0-plugins-good",
    "textoverlay": "gstreamer1.0-x",
}


def describe():
    """Prints the machine, without which the numbers mean little."""
    cpu = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    plugin = Gst.Registry.get().find_plugin("nemostt")
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{plugin.get_filename()}, version {plugin.get_version()}; {Gst.version_string()}")
    print(f"{cpu}, {len(os.sched_getaffinity(0))} cores available, load {load}\n", flush=True)


def run_here(name):
    """Runs one check in this process."""
    checks = Checks()
    function = next(function for function in ALL if function.__name__ == name)
    try:
        function(checks)
    except RuntimeError as error:
        checks.check(False, str(error))
    sys.stdout.flush()
    # Threads that feed a source may still be waiting.
    os._exit(0)


class Runner:
    """Runs each check in a separate process and counts the results."""

    def __init__(self):
        self.passed = self.failed = self.not_run = 0
        self.lock = threading.Lock()

    def run(self, function):
        since = time.monotonic()
        env = {**os.environ, "G_DEBUG": "fatal_warnings"}
        command = [sys.executable, str(Path(__file__).parent), "--here", function.__name__]
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        timer = threading.Timer(function.seconds, process.kill)
        timer.start()
        output = process.communicate()[0]
        in_time = timer.is_alive()
        timer.cancel()
        if not in_time:
            output += f"  FAIL  timed out after {function.seconds} s\n"
        elif process.returncode != 0:
            output += f"  FAIL  exited with {process.returncode}\n"
        lines = output.splitlines()
        with self.lock:
            self.passed += sum(line.startswith("  ok  ") for line in lines)
            self.failed += sum(line.startswith("  FAIL  ") for line in lines)
            self.not_run += sum(line.startswith("  not run: ") for line in lines)
            print(
                f"{function.group} {function.__name__} ({time.monotonic() - since:.0f} s)\n{output}", end="", flush=True
            )


def main():
    parser = argparse.ArgumentParser(
        description="Checks nemostt with live sources.", epilog=f"groups: {', '.join(GROUPS)}"
    )
    parser.add_argument("what", nargs="*", help="groups or checks (default: all)")
    parser.add_argument("-l", "--list", action="store_true", help="list the checks")
    parser.add_argument("-j", "--jobs", type=int, default=4, help="checks to run in parallel (default: 4)")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    Gst.init(None)
    if arguments.here:
        return run_here(arguments.here)
    if arguments.list:
        print("\n".join(f"{function.group:10} {function.__name__}" for function in ALL))
        return 0
    names = {function.__name__ for function in ALL} | set(GROUPS)
    if unknown := set(arguments.what) - names:
        return f"live_test: no such check or group: {', '.join(sorted(unknown))}; --list shows them"
    missing = {package for name, package in ELEMENTS.items() if Gst.ElementFactory.find(name) is None}
    if missing:
        return f"live_test: elements are missing: run 'apt install {' '.join(sorted(missing))}'"
    if Gst.ElementFactory.find("nemostt") is None:
        path = os.environ["GST_PLUGIN_PATH"]
        return f"live_test: no nemostt in {path}: run 'make build', or set GST_PLUGIN_PATH"
    describe()
    wanted = [f for f in ALL if not arguments.what or {f.group, f.__name__} & set(arguments.what)]
    wanted.sort(key=lambda function: GROUPS.index(function.group))
    runner = Runner()
    for function in wanted:
        if function.alone:
            runner.run(function)
    with ThreadPoolExecutor(max(arguments.jobs, 1)) as pool:
        list(pool.map(runner.run, (function for function in wanted if not function.alone)))
    print(f"\n{runner.passed} passed, {runner.failed} failed, {runner.not_run} not run")
    return int(runner.failed > 0)


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Argument errors of tools/export_nemo.sh, reported before it installs anything. Needs the standard library only:

python3 -m unittest tests/export/test_arguments.py
"""

import io
import os
import subprocess
import tarfile
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "export_nemo.sh"


class Arguments(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.venv = self.folder / "venv"
        self.checkpoint = self.folder / "model.nemo"
        with tarfile.open(self.checkpoint, "w") as file:
            for name in ("./model_config.yaml", "./model_weights.ckpt"):
                member = tarfile.TarInfo(name)
                member.size = 4
                file.addfile(member, io.BytesIO(b"x: 1"))

    def run_script(self, *arguments) -> subprocess.CompletedProcess:
        # If it does get to the installation, it finds no package index.
        environment = os.environ | {"PIP_INDEX_URL": "http://127.0.0.1:1", "PIP_RETRIES": "0", "PIP_NO_CACHE_DIR": "1"}
        command = ["bash", SCRIPT, "--venv", self.venv, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder, timeout=60)

    def assert_rejected(self, code: int, sentence: str, *arguments) -> None:
        with self.subTest(sentence):
            found = self.run_script(*arguments)
            self.assertIn(sentence, found.stderr)
            self.assertEqual(found.returncode, code, found.stderr)
            self.assertFalse(self.venv.exists())

    def test_invalid_arguments_install_nothing(self):
        file = self.folder / "file"
        file.write_bytes(b"x")
        full = self.folder / "full"
        full.mkdir()
        (full / "file").write_bytes(b"x")
        out = self.folder / "out"
        self.assert_rejected(2, "the following arguments are required")
        self.assert_rejected(2, "unrecognized arguments: --presicion", self.checkpoint, out, "--presicion", "int8")
        self.assert_rejected(2, "invalid choice: 'onnx'", self.checkpoint, out, "--format", "onnx")
        self.assert_rejected(2, "80ms,fast", self.checkpoint, out, "--lookahead", "80ms,fast")
        self.assert_rejected(1, "gone.nemo does not exist", "gone.nemo", out)
        self.assert_rejected(1, "is a directory without model_config.yaml", full, out)
        self.assert_rejected(1, "is not a .nemo checkpoint", file, out)
        self.assert_rejected(1, "is a file: give a directory", self.checkpoint, file)
        self.assert_rejected(1, "is not empty", self.checkpoint, full)
        self.assert_rejected(1, "is not a writable directory", self.checkpoint, file / "below")
        self.assert_rejected(1, "--wav gone.wav does not exist", self.checkpoint, out, "--wav", "gone.wav")

    def test_help_works_at_any_position(self):
        for arguments in (("--help",), (self.checkpoint, "out", "-h")):
            found = self.run_script(*arguments)
            self.assertEqual(found.returncode, 0, found.stderr)
            self.assertIn("--install-only", found.stdout)
            self.assertIn("--lookahead", found.stdout)
            self.assertFalse(self.venv.exists())

    def test_venv_must_be_a_directory(self):
        self.venv.write_bytes(b"x")
        found = self.run_script(self.checkpoint, "out")
        self.assertEqual(found.returncode, 1)
        self.assertIn("is a file: give a directory", found.stderr)

    def test_valid_arguments_pass(self):
        command = ["python3", SCRIPT.with_suffix(".py"), self.checkpoint, "out", "--check-arguments"]
        found = subprocess.run(command, capture_output=True, text=True, cwd=self.folder)
        self.assertEqual((found.returncode, found.stdout, found.stderr), (0, "", ""))


if __name__ == "__main__":
    unittest.main()

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Complete exports of small models built by NeMo: every kind, layout and precision; faults that must be detected."""

import json
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from checkpoints import config, save, tokenizer
from common import CLIP, export, report, samples, sidecar
from export_nemo import layouts, onnx_edit, parity, precision, runner
from export_nemo.checks import kind_of
from onnx import numpy_helper

LOOKAHEADS = [0, 1, 6, 13]


def setUpModule():
    global FOLDER, scratch
    scratch = tempfile.TemporaryDirectory()
    FOLDER = Path(scratch.name)
    tokenizer(FOLDER / "plain")
    tokenizer(FOLDER / "marked", marks=("<EOU>", "<EOB>"))
    save("EncDecHybridRNNTCTCBPEModel", config(str(FOLDER / "plain")), FOLDER / "hybrid.nemo", samples())


def tearDownModule():
    scratch.cleanup()


def axes(info) -> list:
    return [dim.dim_value or dim.dim_param for dim in info.type.tensor_type.shape.dim]


def exported_model(directory: Path, layout: str, settings: dict, prompt=None) -> parity.ExportedModel:
    """Loads the graphs of an exported directory by their file names."""
    found = layouts.LAYOUTS[layout]
    files = {role: next(iter(sorted(directory.glob(f"{stem}.*onnx")) or [None])) for role, stem in found.files.items()}
    files = {role: path for role, path in files.items() if path}
    kind = kind_of(settings)
    model = onnx.load(files.get("encoder") or files["ctc"], load_external_data=False)
    width = settings["model_defaults"]["enc_hidden"]
    labels = len((directory / "tokens.txt").read_text(encoding="utf-8").splitlines()) - 1
    prednet = settings["decoder"].get("prednet", {})
    lstm = prednet.get("pred_rnn_layers", 0), prednet.get("pred_hidden", 0)
    del model
    return parity.ExportedModel(files, found, kind, layouts.Shape(2, width, 8, labels, *lstm), prompt)


def mel(bands: int = 80) -> np.ndarray:
    """Random features, enough to compare graphs with each other."""
    return np.random.default_rng(1).normal(-8, 3, (bands, 170)).astype(np.float32)


class Hybrid(unittest.TestCase):
    """One checkpoint in all three layouts."""

    @classmethod
    def setUpClass(cls):
        cls.codes = {}
        for layout in layouts.LAYOUTS:
            cls.codes[layout], *_ = export(FOLDER / "hybrid.nemo", FOLDER / layout, "--format", layout, "--wav", CLIP)

    def test_all_match_nemo(self):
        for layout, code in self.codes.items():
            found = report(FOLDER / layout)
            self.assertEqual((code, found["passed"]), (0, True), found)
            decoders = ["rnnt"] if layout == "parakeet-rs" else ["rnnt", "ctc"]
            rows = [(row["lookahead_ms"], row["decoder"]) for row in found["parity"]]
            self.assertEqual(rows, [(ms, decoder) for ms in (0, 80, 480, 1040) for decoder in decoders])
            # A model without tokens would prove nothing.
            self.assertGreater(min(row["labels"] for row in found["parity"]), 5)
            self.assertLess(max(row["streaming_difference"] for row in found["parity"]), 1e-4)

    def test_layouts_give_the_same_tokens(self):
        decoded = {}
        for layout in layouts.LAYOUTS:
            model = exported_model(FOLDER / layout, layout, config())
            decoded[layout] = [model.transcribe("rnnt", mel(), lookahead).labels for lookahead in LOOKAHEADS]
        self.assertGreater(len(decoded["nemo"][0]), 5)
        self.assertEqual(decoded["nemo"], decoded["sherpa"])
        self.assertEqual(decoded["nemo"], decoded["parakeet-rs"])

    def test_sidecar(self):
        found = sidecar(FOLDER / "nemo")
        self.assertEqual(found["format"], 1)
        self.assertEqual(found["class"], "EncDecHybridRNNTCTCBPEModel")
        self.assertEqual((found["lookaheads"], found["labels"], found["special"]), (LOOKAHEADS, 64, {}))
        self.assertEqual((found["decoders"], found["precision"]), (["rnnt", "ctc"], "fp32"))
        self.assertEqual((found["source"], found["nemo_version"][0].isdigit()), ("hybrid.nemo", True))
        expected = {"sample_rate": 16000, "window_size": 0.025, "window_stride": 0.01, "window": "hann", "n_fft": 512}
        self.assertEqual(found["preprocessor"], expected | {"features": 80, "normalize": "NA", "preemph": 0.97})
        self.assertNotIn("prompt", found)
        for layout in layouts.LAYOUTS:
            self.assertEqual(sidecar(FOLDER / layout)["layout"], layout)

    def test_vocabulary(self):
        lines = (FOLDER / "nemo" / "tokens.txt").read_text(encoding="utf-8").splitlines()
        pieces = (FOLDER / "plain" / "vocab.txt").read_text(encoding="utf-8").splitlines()
        self.assertEqual(lines, [f"{piece} {label}" for label, piece in enumerate([*pieces, "<blk>"])])
        packed = (FOLDER / "nemo" / "tokenizer.model").read_bytes()
        self.assertEqual(packed, (FOLDER / "plain" / "tokenizer.model").read_bytes())

    def test_names_axes_and_metadata(self):
        nemo = onnx.load(FOLDER / "nemo" / "encoder-model.onnx")
        names = ["audio_signal", "length", "cache_last_channel", "cache_last_time", "cache_last_channel_len"]
        self.assertEqual([info.name for info in nemo.graph.input], names)
        sherpa = onnx.load(FOLDER / "sherpa" / "encoder.onnx")
        self.assertEqual([info.name for info in sherpa.graph.input], names)
        self.assertEqual(axes(sherpa.graph.input[0])[1], 80)
        metadata = {entry.key: entry.value for entry in sherpa.metadata_props}
        expected = {
            "vocab_size": "64",
            "window_size": "121",
            "chunk_shift": "112",
            "normalize_type": "",
            "feat_dim": "80",
        }
        expected |= {"cache_last_channel_dim1": "2", "cache_last_channel_dim2": "70", "cache_last_channel_dim3": "32"}
        expected |= {"cache_last_time_dim1": "2", "cache_last_time_dim2": "32", "cache_last_time_dim3": "8"}
        expected |= {"pred_rnn_layers": "1", "pred_hidden": "24", "subsampling_factor": "8", "chunk_size_ms": "1120"}
        self.assertEqual(metadata | expected, metadata)
        rust = onnx.load(FOLDER / "parakeet-rs" / "encoder.onnx")
        found = {info.name: axes(info) for info in rust.graph.input}
        self.assertEqual(found["cache_last_channel"], [2, 1, 70, 32])
        self.assertEqual(found["cache_last_time"], [2, 1, 32, 8])
        self.assertIn("processed_signal", found)
        outputs = {info.name for info in rust.graph.output}
        caches = {"cache_last_channel_next", "cache_last_time_next", "cache_last_channel_len_next"}
        self.assertEqual(outputs, {"encoded", "encoded_len"} | caches)
        metadata = {entry.key: entry.value for entry in rust.metadata_props}
        self.assertEqual(metadata, {"chunk_size_output_frames": "14", "pre_encode_cache": "9"})

    def test_non_empty_directory_is_not_changed(self):
        before = (FOLDER / "nemo" / "parity.json").read_bytes()
        code, _, stderr = export(FOLDER / "hybrid.nemo", FOLDER / "nemo")
        self.assertEqual(code, 1)
        self.assertIn("is not empty", stderr)
        self.assertEqual((FOLDER / "nemo" / "parity.json").read_bytes(), before)

    def test_invalid_arguments_are_rejected(self):
        for arguments, sentence in (
            (("--format", "parakeet-rs", "--decoder", "ctc"), "parakeet-rs does not support streaming ctc models"),
            (("--lookahead", "240"), "silently halve"),
            (("--language", "en-US"), "has no prompt"),
            (("--cut-positions", "50"), "a stream reads up to 98 rows"),
            (("--wav", FOLDER / "none.wav"), "cannot be read"),
        ):
            with self.subTest(sentence):
                code, _, stderr = export(FOLDER / "hybrid.nemo", FOLDER / "refused", *arguments)
                self.assertEqual(code, 1)
                self.assertIn(sentence, stderr)
                self.assertFalse((FOLDER / "refused").exists())


class Sets(unittest.TestCase):
    """Several lookaheads and precisions in one run."""

    @classmethod
    def setUpClass(cls):
        arguments = "--format", "sherpa", "--lookahead", "80,480", "--precision", "int8,fp32,fp16", "--wav", CLIP
        cls.code, cls.out, _ = export(FOLDER / "hybrid.nemo", FOLDER / "sets", *arguments)

    def test_one_directory_for_each(self):
        self.assertEqual(self.code, 0, self.out)
        found = {path.name for path in (FOLDER / "sets").iterdir()}
        names = {f"{ms}ms-{kind}" for ms in (80, 480) for kind in ("fp32", "fp16", "int8")}
        self.assertEqual(found, names | {"parity.json"})
        expected = {"encoder.int8.onnx", "decoder.onnx", "joiner.onnx", "model.int8.onnx"}
        expected |= {"tokens.txt", "tokenizer.model", "nemostt.json"}
        self.assertEqual({path.name for path in (FOLDER / "sets" / "80ms-int8").iterdir()}, expected)
        self.assertEqual(sidecar(FOLDER / "sets" / "480ms-fp16")["precision"], "fp16")
        self.assertEqual(sidecar(FOLDER / "sets" / "480ms-fp16")["lookaheads"], [0, 1, 6])

    def test_accuracy_is_reported(self):
        losses = report(FOLDER / "sets")["accuracy"]
        # Two precisions; 80 ms serves two lookaheads and 480 ms three; two decoders.
        self.assertEqual(len(losses), 2 * (2 + 3) * 2)
        noise = {
            name: [row["signal_to_noise_db"] for row in losses if row["precision"] == name] for name in ("fp16", "int8")
        }
        self.assertGreater(min(noise["fp16"]), 50)
        self.assertGreater(min(noise["int8"]), 20)
        self.assertGreater(min(noise["fp16"]), max(noise["int8"]))
        self.assertLess(max(noise["fp16"]), 100, "half precision must lose accuracy")

    def test_metadata_is_preserved(self):
        for path in (FOLDER / "sets").glob("*/encoder.*onnx"):
            metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
            self.assertEqual(metadata["window_size"], "25" if path.parent.name.startswith("80ms") else "65", path)

    def test_converted_weights(self):
        kinds = {}
        for name in ("fp32", "fp16", "int8"):
            graph = onnx.load(next((FOLDER / "sets" / f"480ms-{name}").glob("encoder.*onnx"))).graph
            kinds[name] = {tensor.data_type for tensor in graph.initializer if np.prod(tensor.dims) > 1000}
            if name == "int8":
                self.assertNotIn("Conv", {node.op_type for node in graph.node if "pointwise" in node.name})
                self.assertIn("MatMulInteger", {node.op_type for node in graph.node})
                subsampling = [node for node in graph.node if "pre_encode" in node.name]
                self.assertNotIn("MatMulInteger", {node.op_type for node in subsampling})
        self.assertEqual(kinds["fp32"], {onnx.TensorProto.FLOAT})
        self.assertEqual(kinds["fp16"], {onnx.TensorProto.FLOAT16})
        self.assertIn(onnx.TensorProto.INT8, kinds["int8"])

    def test_nan_outputs_fail(self):
        model = mock.Mock()
        model.transcribe.return_value = parity.Decoded(np.array([[np.nan]], np.float32), [])
        golden = {(0, "clip", "rnnt"): parity.Decoded(np.array([[1.0]], np.float32), [])}
        reference = mock.Mock(mels={"clip": None})
        losses = parity.check_precision(model, "", "fp16", reference, golden, 80, str)
        self.assertFalse(losses[0].passed)
        self.assertFalse(parity.report([], losses, {})["passed"])
        json.dumps(parity.report([], losses, {}), allow_nan=False)


class OtherKinds(unittest.TestCase):
    def check(self, target: str, settings: dict, *arguments, **expected) -> dict:
        name = expected.pop("name")
        save(target, settings, FOLDER / f"{name}.nemo", samples())
        code, out, stderr = export(FOLDER / f"{name}.nemo", FOLDER / name, "--wav", CLIP, *arguments)
        self.assertEqual(code, 0, out + stderr)
        self.assertGreater(min(row["labels"] for row in report(FOLDER / name)["parity"]), 3)
        found = sidecar(FOLDER / name)
        self.assertEqual(found | expected, found)
        return found

    def test_rnnt_with_the_shape_of_nemotron(self):
        settings = config(str(FOLDER / "plain"), contexts=[[56, r] for r in (13, 6, 3, 1, 0)], mels=128, lstms=2)
        settings["target"] = "nemo.collections.asr.models.EncDecRNNTBPEModel"
        del settings["aux_ctc"]
        self.check(
            "EncDecRNNTBPEModel",
            settings,
            "--external-data",
            name="rnnt",
            decoders=["rnnt"],
            lookaheads=[0, 1, 3, 6, 13],
        )
        graph, weights = FOLDER / "rnnt" / "encoder-model.onnx", FOLDER / "rnnt" / "encoder-model.onnx.data"
        self.assertGreater(weights.stat().st_size, 100_000)
        onnx.checker.check_model(str(graph))
        self.assertFalse(list((FOLDER / "rnnt").glob(".*")), "no leftovers")

    def test_ctc_alone(self):
        settings = config(str(FOLDER / "plain"))
        settings["decoder"] = settings.pop("aux_ctc")["decoder"]
        del settings["joint"], settings["loss"]
        settings["target"] = "nemo.collections.asr.models.EncDecCTCModelBPE"
        self.check("EncDecCTCModelBPE", settings, "--lookahead", "80", name="ctc", decoders=["ctc"], lookaheads=[1])
        code, _, stderr = export(FOLDER / "ctc.nemo", FOLDER / "refused", "--decoder", "both")
        self.assertEqual(code, 1)
        self.assertIn("has no rnnt decoder", stderr)

    def test_end_of_utterance_tokens(self):
        found = self.check(
            "EncDecHybridRNNTCTCBPEModel",
            config(str(FOLDER / "marked")),
            "--licence",
            "CC0-1.0",
            name="eou",
            licence="CC0-1.0",
        )
        pieces = (FOLDER / "eou" / "tokens.txt").read_text(encoding="utf-8").splitlines()
        self.assertEqual(
            found["special"],
            {
                "end_of_utterance": next(i for i, line in enumerate(pieces) if line.startswith("<EOU> ")),
                "end_of_backchannel": next(i for i, line in enumerate(pieces) if line.startswith("<EOB> ")),
            },
        )

    def test_prompts(self):
        target = "EncDecHybridRNNTCTCBPEModelWithPrompt"
        settings = config(str(FOLDER / "plain"))
        settings["target"] = f"nemo.collections.asr.models.hybrid_rnnt_ctc_bpe_models_prompt.{target}"
        languages = {"en-US": 0, "de-DE": 3, "auto": 5}
        settings["model_defaults"] |= {
            "initialize_prompt_feature": True,
            "num_prompts": 8,
            "prompt_dictionary": languages,
        }
        expected = {"dictionary": languages, "auto": 5, "size": 8}
        save(target, settings, FOLDER / "prompt.nemo", samples())
        decoded = {}
        for layout, language in (("nemo", "de-DE"), ("sherpa", "auto"), ("parakeet-rs", "en-US")):
            arguments = "--format", layout, "--language", language, "--wav", CLIP
            code, out, stderr = export(FOLDER / "prompt.nemo", FOLDER / f"prompt-{layout}", *arguments)
            self.assertEqual(code, 0, out + stderr)
            self.assertEqual(sidecar(FOLDER / f"prompt-{layout}")["prompt"], expected)
            encoder = next((FOLDER / f"prompt-{layout}").glob("encoder*.onnx"))
            self.assertEqual(onnx.load(encoder).graph.input[-1].name, "prompt_index")
            outputs = [
                exported_model(FOLDER / f"prompt-{layout}", layout, settings, prompt).encoders["rnnt"].encode(mel(), 6)
                for prompt in (0, 3)
            ]
            self.assertGreater(parity.difference(*outputs), 0.01, "the prompt must change the outputs")
            decoded[layout] = outputs[0]
        self.assertLess(parity.difference(decoded["nemo"], decoded["sherpa"]), 1e-4)
        self.assertLess(parity.difference(decoded["nemo"], decoded["parakeet-rs"]), 1e-4)
        metadata = {
            entry.key: entry.value for entry in onnx.load(FOLDER / "prompt-sherpa" / "encoder.onnx").metadata_props
        }
        self.assertEqual(json.loads(metadata["prompt_dictionary"]), languages)
        self.assertEqual(metadata["auto_prompt_id"], "5")
        code, _, stderr = export(FOLDER / "prompt.nemo", FOLDER / "refused", "--language", "xx")
        self.assertIn("do not include xx: use one of auto, de-DE, en-US", stderr)


class Faults(unittest.TestCase):
    """The report must detect faults."""

    def fail_with(self, name: str, modify) -> dict:
        whole = layouts.arrange

        def modified(*arguments):
            files = whole(*arguments)
            model = onnx_edit.read(files["encoder"])
            modify(model)
            onnx_edit.write(model, files["encoder"])
            return files

        with mock.patch.object(layouts, "arrange", modified):
            arguments = "--decoder", "rnnt", "--lookahead", "80", "--wav", CLIP
            code, out, _ = export(FOLDER / "hybrid.nemo", FOLDER / name, *arguments)
        self.assertEqual(code, 3, out)
        self.assertIn("DIFFERS FROM NEMO", out)
        self.assertFalse(report(FOLDER / name)["passed"])
        return report(FOLDER / name)["parity"][0]

    def test_changed_weight(self):
        def modify(model):
            tensor = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
            values = numpy_helper.to_array(tensor) * np.float32(1.05)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

        self.assertGreater(self.fail_with("weight", modify)["offline_difference"], 1e-4)

    def test_lost_cache(self):
        def modify(model):
            last = next(node for node in model.graph.node if "cache_last_time_next" in node.output)
            last.output[0] = "kept"
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "nothing"))
            model.graph.node.append(onnx.helper.make_node("Mul", ["kept", "nothing"], ["cache_last_time_next"]))

        row = self.fail_with("cache", modify)
        self.assertGreater(row["streaming_difference"], 1e-2)

    def test_nan_outputs(self):
        def modify(model):
            tensor = max(model.graph.initializer, key=lambda tensor: np.prod(tensor.dims))
            values = np.full_like(numpy_helper.to_array(tensor), np.nan)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

        self.assertEqual(self.fail_with("nan", modify)["offline_difference"], "inf")


class CutPositions(unittest.TestCase):
    def test_cut_table_is_sufficient(self):
        arguments = "--cut-positions", "100", "--decoder", "ctc", "--wav", CLIP
        code, out, _ = export(FOLDER / "hybrid.nemo", FOLDER / "cut", *arguments)
        self.assertEqual(code, 0, out)
        graph = onnx.load(FOLDER / "cut" / "ctc.onnx").graph
        tables = [
            list(a.t.dims) for node in graph.node for a in node.attribute if a.name == "value" and len(a.t.dims) == 3
        ]
        self.assertEqual([dims[1] for dims in tables], [199])


if __name__ == "__main__":
    unittest.main()

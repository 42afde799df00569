"""README's Python runs, and the package exports what it says."""

import pathlib
import re
import subprocess
import sys

import ohem_tf

ROOT = pathlib.Path(__file__).resolve().parents[1]


def test_the_python_of_the_readme_trains_saves_and_takes_a_sampler(dataset, tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(blocks) == 2
    code = "\n".join(blocks)
    for said, here in (
        ('"records/voc07", "trainval"', f'"{dataset}", "train"'),
        ("include_top=False,", "include_top=False, weights=None,"),
        ("backbone.channels)", "backbone.channels, hidden=(8,))"),
        ("seed=0)", "seed=0, shortest_sides=(64,), longest_side=100)"),
        ("80_000", "2"),
        ("voc07.keras", f"{tmp_path}/voc07.keras"),
    ):
        assert said in code
        code = code.replace(said, here)
    names: dict = {}
    exec(code, names)
    loaded = names["keras"].saving.load_model(tmp_path / "voc07.keras")
    assert loaded.step == 2
    model = names["model"]
    model.compile(ohem_tf.CaffeSGD(0.001))
    history = model.fit(names["batches"], steps_per_epoch=1, verbose=0, shuffle=False).history
    assert history["loss/all_rois"][0] > 0  # the read-only pass ran
    assert history["loss/hard"][0] > 0
    assert isinstance(model.sampler, ohem_tf.Sampler)


def test_every_public_name_is_there_and_no_other():
    for name in ohem_tf.__all__:
        assert getattr(ohem_tf, name).__name__ == name
    assert set(ohem_tf.__all__) == set(ohem_tf._MODULES)


def test_a_config_needs_neither_tensorflow_nor_keras():
    code = (
        "import sys; import ohem_tf.config as c; c.validate(c.paper()); "
        "print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr

"""One command for all binaries: ohem COMMAND --FLAG=VALUE ..., or python -m ohem_tf COMMAND ...

`ohem train --workdir=...` is `python -m ohem_tf.train --workdir=...`. This file imports none of
them, so that listing them takes no time.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import pathlib
import runpy
import sys

from ohem_tf.version import __version__

COMMANDS = {
    "scenes": ("ohem_tf.data.scenes", "compose the embedded data set, as a VOC folder"),
    "prepare": ("ohem_tf.prepare", "raw images and annotations to records"),
    "check": ("ohem_tf.check", "everything that is wrong or worth a look in data and labels"),
    "train": ("ohem_tf.train", "train a detector, or go on with a training"),
    "find-lr": ("ohem_tf.find_lr", "the learning rate at which the loss falls fastest"),
    "evaluate": (
        "ohem_tf.evaluate",
        "AP of a trained detector, files for the VOC and COCO servers",
    ),
    "detect": ("ohem_tf.detect", "images with their detections drawn in"),
    "report": ("ohem_tf.report", "one HTML page on evaluated runs: errors, curves, pictures"),
    "mine": ("ohem_tf.mine", "images without objects that a detector is most wrong about"),
    "compare": ("ohem_tf.compare", "does OHEM help on your data? methods x seeds, with intervals"),
    "debug-step": ("ohem_tf.debug_step", "which RoIs of a step have no finite loss, and why"),
    "tables": ("ohem_tf.tables", "runs beside the paper's tables"),
    "roi-loss": ("ohem_tf.roi_loss", "the paper's figure 3: mean loss over all RoIs"),
    "convert-caffe": ("ohem_tf.convert_caffe", "weights of Caffe's, without Caffe"),
    "export": ("export.saved_model", "a SavedModel for TensorFlow Serving, or for export.onnx"),
    "onnx": ("export.onnx", "an exported detector as an ONNX file"),
    "client": ("export.client", "detections of a server"),
}
_SHELLS = ("bash", "zsh")


def main(arguments: list[str]) -> int:
    """Runs a command.

    Args:
      arguments: what follows `ohem`.

    Returns:
      Exit status; a command that runs ends the process with its own: 0, or 1 after one line on
      stderr that says what is wrong.
    """
    name, *others = arguments or ["--help"]
    if name in COMMANDS:
        module = COMMANDS[name][0]
        sys.argv = [f"ohem {name}", *others]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return 0
    if name in ("--help", "-h", "help"):
        print(usage())
        return 0
    if name == "--version":
        print(__version__)
        return 0
    if name == "completion":
        if others not in ([shell] for shell in _SHELLS):
            return _error(f"completion: expected one of {', '.join(_SHELLS)}")
        print(completion(others[0]))
        return 0
    near = difflib.get_close_matches(name, COMMANDS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(COMMANDS)}"
    return _error(f"{name}: no such command; {hint}")


def usage() -> str:
    """All commands, a line each."""
    rows = [f"  {name:15}{about}" for name, (_, about) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: ohem COMMAND [--FLAG=VALUE ...]",
            "",
            *rows,
            '  completion     for bash or zsh: eval "$(ohem completion bash)"',
            "",
            "ohem COMMAND --help explains its flags. Exit status: 0, or 1 and why on stderr.",
        ]
    )


def flags_of(module: str) -> list[str]:
    """Names of the flags that a binary defines, read from its source and that of raw_flags.py."""
    spec = importlib.util.find_spec(module)
    assert spec
    assert spec.origin
    tree = ast.parse(pathlib.Path(spec.origin).read_text(encoding="utf-8"))
    shared = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "ohem_tf"
        and any(name.name == "raw_flags" for name in node.names)
        for node in ast.walk(tree)
    )
    return (flags_of("ohem_tf.raw_flags") if shared else []) + [
        str(node.args[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr.startswith("DEFINE_")
        and isinstance(node.args[0], ast.Constant)
    ]


def completion(shell: str) -> str:
    """A script that completes commands and flags, and files after a flag's =."""
    cases = "\n".join(
        f'    {name}) flags="{" ".join(f"--{flag}=" for flag in flags_of(module))}" ;;'
        for name, (module, _) in COMMANDS.items()
    )
    script = f"""_ohem() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" flags=""
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{" ".join([*COMMANDS, "completion"])}" -- "$word"))
    return
  fi
  case "${{COMP_WORDS[1]}}" in
{cases}
  esac
  if [ "$word" = "=" ] || [ "${{COMP_WORDS[COMP_CWORD-1]}}" = "=" ]; then
    COMPREPLY=($(compgen -f -- "${{word#=}}"))
  else
    COMPREPLY=($(compgen -W "$flags" -- "$word"))
  fi
}}
complete -o nospace -o filenames -F _ohem ohem"""
    if shell == "zsh":
        script = f"autoload -U +X bashcompinit && bashcompinit\n{script}"
    return script


def _error(message: str) -> int:
    print("error:", message, file=sys.stderr)
    return 1


def cli() -> None:
    """Console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    cli()

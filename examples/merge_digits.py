"""Merge the demo's two specialists from Python and load the result.

Run it where `hubmerge demo` was run:  python examples/merge_digits.py
"""

from pathlib import Path

import hubmerge

MODELS = "./hubmerge-demo/models"
OUT = Path("hubmerge-demo/merged/from-python")

recipe = hubmerge.load_recipe(
    {
        "merge_method": "task_arithmetic",
        "base_model": f"{MODELS}/digits-base",
        "models": [{"model": f"{MODELS}/digits-low"}, {"model": f"{MODELS}/digits-high"}],
        "parameters": {"lambda": 0.7},
        "dtype": "float32",
    }
)
print(hubmerge.build_plan(recipe))

manifest = hubmerge.merge(recipe, OUT)
print(f"{manifest.parameters:,} parameters in {OUT}, from {len(manifest.parents)} models")

model = hubmerge.AutoMergedModel.from_pretrained(str(OUT))
print(type(model).__name__, "knows the digits", ", ".join(model.config.id2label.values()))

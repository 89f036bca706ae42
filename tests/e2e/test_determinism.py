"""The same seed and one worker: the same study."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.slow


def test_same_seed_same_study(place: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = []
    for folder in ("first", "second"):
        there = type(place)(tmp_path_factory.mktemp(folder))
        there.write_table()
        there.write_study(budget={"trials": 6}, trainer={"max_epochs": 6}, seed=11)
        document = there.automl("run", "small.yaml", "--workers", 1, "--json").json
        trials = [(t.number, t.state, t.params, t.values, t.intermediate_values) for t in there.trials()]
        found.append((trials, document["validation"], document["test"], document["ensemble"]))
    assert found[0] == found[1]
    assert len(found[0][0]) == 6

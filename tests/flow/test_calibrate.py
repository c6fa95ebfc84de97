"""The sample of a corpus, read by workers in rounds."""

from types import SimpleNamespace

from reading import corpus_config, write

from embedkit.corpus.plan import plan_inputs
from embedkit.corpus.text_sample import TextSample
from embedkit.flow import calibrate
from embedkit.flow.map_splits import map_in_threads
from embedkit.hashes.digests import text_hash


def test_rounds_give_the_sample_of_all_and_hold_little_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(TextSample.__init__, "__defaults__", (20, "g"))
    monkeypatch.setattr(calibrate, "_FIRST_SPLITS", 2)
    texts = [f"text {number}" for number in range(3000)]
    for number in range(60):
        lines = texts[50 * number : 50 * number + 50]
        write(tmp_path / f"{number:02d}.txt", "".join(f"{line}\n" for line in lines))
    config = corpus_config(tmp_path, split_bytes=500)
    draft = SimpleNamespace(plan=plan_inputs(config))
    rounds = []

    def counted(function, items):
        found = list(map_in_threads(function, items))
        rounds.append((len(items), sum(len(one.texts) for one in found)))
        return found

    sample = calibrate.sample_by_workers(draft, config, counted)
    by_hash = {text_hash(text): text for text in texts}
    assert sample.texts == {key: by_hash[key] for key in sorted(by_hash)[:20]}
    assert [splits for splits, _ in rounds[:2]] == [2, 8]
    assert sum(splits for splits, _ in rounds) == len(draft.plan.splits)
    # Without a bound a round would bring back 20 of each of its splits.
    assert all(back < 5 * 20 + 40 for _, back in rounds)

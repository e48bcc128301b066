"""The user's data in words, and how long a training on it takes: pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from your_ai.planning.distribution import Distribution
from your_ai.runs.expected_training import ExpectedTraining
from your_ai.runs.trial_result import TrialResult
from your_ai.terminal.config_answer import unlimited_peak
from your_ai.terminal.eta import show_duration
from your_ai.terminal.screen import WIDTH
from your_ai.terminal.wording import counted
from your_ai.units import show_size

_INDENT = " " * 8
_BARS = "▁▂▃▄▅▆▇█"


def samples(train: Sequence[int], valid: Sequence[int]) -> str:
    """The numbers of samples."""
    training = f"{len(train):,} training sample{'' if len(train) == 1 else 's'}"
    return f"{training}, {len(valid):,} for validation" if valid else f"{training}, no validation"


def tokenized(done: int, total: int) -> str:
    """How many samples are tokenized."""
    return f"{done:,} of {total:,} samples"


def no_tokenizer(name: str, problem: str, seq_length: int | None) -> str:
    """Why the lengths are unknown, and which length is measured instead, if only one."""
    what = "its samples are not compared with the lengths that fit"
    if seq_length is not None:
        what = f"every sequence has the maximum of {seq_length:,} tokens"
    return f"the data is not tokenized for {name}, so {what}. {problem}"


def distribution(lengths: Distribution, width: int | None) -> Iterator[str]:
    """The lengths of the training samples in a line, and a histogram if there is more than one."""
    line = (
        f"Lengths of {lengths.samples:,} samples: median {lengths.median:,}, "
        f"95 % {lengths.percentile_95:,}, longest {lengths.longest:,} tokens"
    )
    if lengths.cut:
        verb = "is" if lengths.cut == 1 else "are"
        line += f"; {lengths.cut:,} {verb} cut at {lengths.max_seq_length:,}"
    yield line
    if lengths.shortest != lengths.longest and (width or WIDTH) >= len(_histogram(lengths)):
        yield _histogram(lengths)


def expectation(result: TrialResult) -> Iterator[str]:
    """How long a training on the data takes, if that is known."""
    training = result.expected_training
    if training is None:
        return
    plain = f"about {show_duration(training.seconds)} with mlx_lm.lora"
    if result.data_lengths is None:
        plain += f" if every sequence has {result.config.seq_length:,} tokens"
    unlimited = unlimited_peak(result)
    more = "of more than " if unlimited is not None and unlimited[1] else ""
    parts = [plain, f"peak {more}{show_size(training.peak_memory_bytes)}"]
    parts += [f"including {validation}" for validation in _validation(training)]
    yield f"{_INDENT}{training.iters:,} iterations: {', '.join(parts)}"
    if round(training.seconds_at_needed_memory) > round(training.seconds):
        least = show_duration(training.seconds_at_needed_memory)
        needed = show_size(result.needed_memory_bytes or 0)
        yield f"{_INDENT}with `your_ai train`: the same, or about {least} in {needed}"


def _validation(training: ExpectedTraining) -> Iterator[str]:
    if training.validations:
        how_often = counted(training.validations, "validation")
        yield f"{show_duration(training.validation_seconds)} for {how_often}"


def _histogram(lengths: Distribution) -> str:
    """The number of samples by length as bars; none for no sample."""
    most = max(lengths.histogram)
    bars = [
        _BARS[-(-count * len(_BARS) // most) - 1] if count else " " for count in lengths.histogram
    ]
    end = lengths.bin_tokens * len(bars)
    return f"    1 {''.join(2 * bar for bar in bars)} {end:,} tokens"

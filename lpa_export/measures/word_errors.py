"""Word errors of transcripts: how many of which kind, and in which utterances."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["WordErrors", "count_errors"]


@dataclass(frozen=True)
class WordErrors:
    """Substitutions, deletions, insertions over a test set; ``per_utterance`` is their sum."""

    words: int
    substitutions: int
    deletions: int
    insertions: int
    words_per_utterance: tuple[int, ...]
    per_utterance: tuple[int, ...]

    @property
    def wer(self) -> float:
        """Percent; above 100 where insertions abound."""
        errors = self.substitutions + self.deletions + self.insertions
        return 100.0 * errors / self.words


def count_errors(
    texts: Sequence[str], transcripts: Sequence[str], normalise: Callable[[str], str]
) -> WordErrors:
    """Word errors of ``transcripts`` against ``texts``, both normalised first (jiwer aligns).

    ``normalise``: the rule of the vocabulary that was spoken with.
    Raises ValueError when ``texts`` hold no word at all.
    """
    import jiwer

    references = [normalise(text) for text in texts]
    hypotheses = [normalise(text) for text in transcripts]
    words = tuple(len(text.split()) for text in references)
    if not sum(words):
        raise ValueError("a WER needs at least one reference word")
    # jiwer refuses an empty reference: everything said there is an insertion.
    spoken = [index for index, count in enumerate(words) if count]
    result = jiwer.process_words(
        [references[index] for index in spoken], [hypotheses[index] for index in spoken]
    )
    errors = [len(text.split()) for text in hypotheses]
    insertions = sum(errors[index] for index, count in enumerate(words) if not count)
    for index, alignment in zip(spoken, result.alignments, strict=True):
        errors[index] = sum(
            max(chunk.ref_end_idx - chunk.ref_start_idx, chunk.hyp_end_idx - chunk.hyp_start_idx)
            for chunk in alignment
            if chunk.type != "equal"
        )
    return WordErrors(
        sum(words),
        result.substitutions,
        result.deletions,
        result.insertions + insertions,
        words,
        tuple(errors),
    )

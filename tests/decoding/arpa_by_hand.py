"""An ARPA file read and scored in the plainest way: what KenLM and the search are held against."""

from pathlib import Path

ORDER = 3


class Table:
    """log10 probabilities by backing off, as the format defines them."""

    def __init__(self, path: Path) -> None:
        self.found: dict[tuple[str, ...], float] = {}
        self.weights: dict[tuple[str, ...], float] = {}
        for line in path.read_text("utf-8").splitlines():
            fields = line.split("\t")
            if len(fields) > 1:
                gram = tuple(fields[1].split())
                self.found[gram] = float(fields[0])
                self.weights[gram] = float(fields[2]) if len(fields) > 2 else 0.0

    def score(self, history: tuple[str, ...], word: str) -> float:
        """log10 P(word | history)."""
        history = history[len(history) - min(len(history), ORDER - 1) :]
        if (*history, word) in self.found:
            return self.found[(*history, word)]
        if not history:
            return self.found[("<unk>",)]
        return self.weights.get(history, 0.0) + self.score(history[1:], word)

    def sentence(self, words: tuple[str, ...], letters: int) -> float:
        """log10 P of a sentence with its end, words that are not known spelled."""
        total = 0.0
        history: tuple[str, ...] = ("<s>",)
        for word in words:
            known = (word,) in self.found
            total += self.score(history, word if known else "<unk>")
            total -= 0.0 if known else (len(word) + 1) * LOG10[letters + 1]
            history = (*history, word if known else "<unk>")
        return total + self.score(history, "</s>")


LOG10 = {3: 0.47712125471966244, 4: 0.6020599913279624}

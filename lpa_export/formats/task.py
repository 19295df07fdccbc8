"""Which task a recipe, a checkpoint or a bundle is for: it recognises speech, or separates it."""

from pathlib import Path

from lpa_export.errors import LpaError

__all__ = ["RECOGNITION", "SEPARATION", "TASKS", "task_of"]

RECOGNITION, SEPARATION = "recognition", "separation"
TASKS = (RECOGNITION, SEPARATION)


def task_of(path: Path) -> str:
    """The `task` of a recipe, recognition where it names none; LpaError for another."""
    import yaml

    from lpa_export.formats.strict_yaml import read_tree

    for key, value in read_tree(path).value:
        if isinstance(key, yaml.ScalarNode) and key.value == "task":
            if value.value not in TASKS:
                raise LpaError(
                    f"{path}:{value.start_mark.line + 1}: 'task' is {value.value!r}; "
                    f"known: {', '.join(TASKS)}"
                )
            return str(value.value)
    return RECOGNITION
